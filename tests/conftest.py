"""Shared by all tests: tiles, and sandboxes in place of Terrascope."""

import fcntl
import logging
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rio_terrascope.auth.oidc import refusals
from rio_terrascope.gdal import cache
from rio_terrascope.sandbox import Sandbox
from rio_terrascope.sandbox.paths import SYNTHETIC_TILES, worldcover_path
from rio_terrascope.sandbox.tile import write_tile

NAMES = [f"ESA_WorldCover_10m_{year}_N00E006_Map.tif" for year in ("2020_v100", "2021_v200")]
ESA_TILES = Path(os.environ.get("TERRASCOPE_TEST_TILES", "/nowhere"))
HAS_ESA_TILES = all((ESA_TILES / name).is_file() for name in NAMES)

LOGGERS = ("rio_terrascope", "rasterio", "urllib3.connectionpool")


def pytest_configure():
    """Let Ctrl-C work in all processes of the tests: a shell turns it off for what it starts with '&'."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Skip tests that need ESA's tiles if the tiles are missing."""
    if not HAS_ESA_TILES:
        needs = pytest.mark.skip(
            reason=f"needs ESA's tiles: put {' and '.join(NAMES)} into a folder, "
            "and set TERRASCOPE_TEST_TILES to it (README, 'Tests')"
        )
        for item in items:
            if item.get_closest_marker("esatiles"):
                item.add_marker(needs)


@pytest.fixture(scope="session")
def synthetic_tile(tmp_path_factory):
    """Make a synthetic tile, which takes seconds, once for all workers of pytest-xdist."""
    run = tmp_path_factory.getbasetemp()
    folder = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "tiles"
    folder.mkdir(exist_ok=True)

    def make(year, name):
        file = folder / Path(worldcover_path(year, name)).name
        with open(f"{file}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                write_tile(file, year=year, name=name)
        return file

    return make


@pytest.fixture(scope="session")
def tiles(synthetic_tile):
    """The WorldCover tiles N00E006 of 2020 and 2021: ESA's if available, otherwise synthetic ones."""
    if HAS_ESA_TILES:
        return [ESA_TILES / name for name in NAMES]
    return [synthetic_tile(year, "N00E006") for year in (2020, 2021)]


@pytest.fixture(scope="session")
def four_tiles(synthetic_tile):
    """The synthetic tiles that a sandbox serves if it is given none."""
    return [synthetic_tile(*tile) for tile in SYNTHETIC_TILES]


@pytest.fixture(scope="session")
def big_header(tmp_path_factory):
    """A tiled GeoTIFF that is not in COG layout, with a header of 130 KB, and overviews at its end."""
    file = tmp_path_factory.mktemp("files") / "big-header.tif"
    size, block = 4096, 32
    layout = {"tiled": True, "blockxsize": block, "blockysize": block, "compress": "deflate"}
    meta = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": size, "width": size, "nodata": 0}
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
    pixels = np.random.default_rng(1).integers(1, 255, (size // 64, size // 64), np.uint8)
    with rasterio.open(file, "w", **meta, **layout, crs="EPSG:32631", transform=transform) as dataset:
        dataset.write(pixels.repeat(64, 0).repeat(64, 1), 1)
        dataset.write_colormap(1, {1: (1, 2, 3, 255)})
        dataset.update_tags(place="somewhere")
    with rasterio.open(file, "r+") as dataset:
        dataset.build_overviews([2, 4, 8])
    return file


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch, tmp_path):
    """Hide the machine's settings, login and netrc, and return an empty runtime folder."""
    for name in [name for name in os.environ if name.startswith("TERRASCOPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    refusals.clear()  # the process remembers passwords that an earlier test has had refused
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    yield runtime
    for name, level in levels.items():  # the commands set them for the whole process
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session")
def _long_running(tiles):
    with Sandbox(tiles=tiles, accounts={"colleague": "other-password"}) as server:
        yield server


@pytest.fixture
def sandbox(_long_running, monkeypatch):
    """A sandbox with tokens of 300 s. The environment points to it."""
    for name, value in _long_running.environ.items():
        monkeypatch.setenv(name, value)
    cache.forget_all()  # GDAL would not request what an earlier test has read
    _long_running.clear()
    yield _long_running
    _long_running.heal()
    _long_running.login_page(False)
    _long_running.latency(0)


@pytest.fixture
def fleeting(tiles, monkeypatch):
    """A sandbox with tokens of 2 s. The environment points to it."""
    with Sandbox(tiles=tiles, token_lifetime=2.0) as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def local(tiles):
    """The local file of the first tile, opened, to compare pixels with."""
    with rasterio.open(tiles[0]) as dataset:
        yield dataset


@pytest.fixture
def in_threads():
    """Run each function in a thread, wait for all, and raise the first error."""

    def run(*functions):
        errors = []

        def call(function):
            try:
                function()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=call, args=(function,)) for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "a thread hangs"
        if errors:
            raise errors[0]

    return run
