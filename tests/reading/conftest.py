"""Files with known pixels, and a stand-in for Terrascope whose tokens live 2 s."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from rio_terrascope import terrascope_env, worldcover
from rio_terrascope.sandbox import Sandbox

BLOCK = 256


def write_noise(
    path, *, west=0.0, north=8.0, size=8 * BLOCK, count=1, dtype="uint8", crs="EPSG:4326", **more
):
    """Write a raster of noise, which cannot be compressed, in blocks of 64 KB. A pixel is 1/256 degree."""
    rng = np.random.default_rng(int(west) * 7 + int(north))
    limit = 255 if dtype == "uint8" else 10_000
    pixels = rng.integers(1, limit, (count, size, size)).astype(dtype)
    pixels[:, 5:9, 5:9] = 0
    with rasterio.open(
        path, "w", driver="GTiff", width=size, height=size, count=count, dtype=dtype, crs=crs,
        transform=from_origin(west, north, *more.pop("pixel", (1 / 256, 1 / 256))),
        tiled=True, blockxsize=BLOCK, blockysize=BLOCK, **({"nodata": 0} | more),
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    return path


@pytest.fixture(scope="session")
def noise(tmp_path_factory):
    """A raster of one band and 8 x 8 blocks, from 0 to 8 degrees east and north."""
    return write_noise(tmp_path_factory.mktemp("noise") / "noise.tif")


@pytest.fixture(scope="session")
def metres(tmp_path_factory):
    """Three bands of int16 in UTM 31N, with overviews and incomplete blocks at the edges."""
    path = tmp_path_factory.mktemp("metres") / "metres.tif"
    write_noise(
        path,
        west=600_000,
        north=5_700_000,
        size=700,
        count=3,
        dtype="int16",
        crs="EPSG:32631",
        pixel=(10, 10),
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], rasterio.enums.Resampling.nearest)
    return path


@pytest.fixture(scope="session")
def _running(tiles, noise):
    with Sandbox(tiles=tiles, token_lifetime=2.0) as server:
        server.add_file(noise, "noise.tif")
        yield server


@pytest.fixture
def server(_running, monkeypatch):
    """The stand-in, without recorded requests. The environment's settings name it."""
    for name, value in _running.environ.items():
        monkeypatch.setenv(name, value)
    worldcover.forget_sea()
    _running.clear()
    yield _running
    _running.heal()


@pytest.fixture
def inside(server):
    """Run the test inside a `terrascope_env` that does not retry failed requests."""
    with terrascope_env(GDAL_HTTP_MAX_RETRY=0) as env:
        yield env


@pytest.fixture
def data_requests(server):
    """Return a function that returns GDAL's requests for files so far, all of which had a valid token.

    The one look at a URL with an HTTP client, before GDAL opens it, is left out.
    """

    def requests():
        seen = server.requests("data")
        assert {request.authorization for request in seen} <= {"valid"}
        return [request for request in seen if "requests" not in request.headers.get("user-agent", "")]

    return requests
