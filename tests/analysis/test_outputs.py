"""Output files appear complete or not at all, and nothing but a file is replaced."""

import os
import stat
import threading

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from rio_terrascope.analysis.cog import extract
from rio_terrascope.analysis.outputs import written_whole
from rio_terrascope.analysis.regions import whole
from rio_terrascope.reading.raster import Raster

posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs and modes")


def write(path, text="new"):
    with written_whole(path) as temporary:
        temporary.write_text(text)


def files_in(folder):
    return sorted(path for path in folder.iterdir() if path.name != "runtime")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@posix
@pytest.mark.parametrize("bits", [0o600, 0o640, 0o444, 0o755])
def test_a_file_keeps_its_mode(tmp_path, bits):
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(bits)
    write(file)
    assert (file.read_text(), mode(file)) == ("new", bits)
    assert files_in(tmp_path) == [file]


@posix
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    os.chown(file, 1234, 4321)
    write(file)
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 4321)


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_new_file_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o666 & ~umask


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(tmp_path, exists):
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "file"
    if exists:
        file.write_text("old")
    link, second = tmp_path / "link", tmp_path / "second"
    link.symlink_to("elsewhere/file")
    second.symlink_to("link")
    write(second)
    assert link.is_symlink()
    assert second.is_symlink()
    assert file.read_text() == "new"
    assert list((tmp_path / "elsewhere").iterdir()) == [file]


@posix
def test_a_device_is_written_to():
    before = os.stat("/dev/null")
    write("/dev/null")
    after = os.stat("/dev/null")
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)


@posix
def test_a_fifo_is_written_to(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    seen = []
    reader = threading.Thread(target=lambda: seen.append(fifo.read_text()))
    reader.start()
    write(fifo)
    reader.join(30)
    assert seen == ["new"]
    assert fifo.is_fifo()
    assert files_in(tmp_path) == [fifo]


def test_a_failure_leaves_the_old_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")

    def fail():
        with written_whole(file) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert file.read_text() == "old"
    assert files_in(tmp_path) == [file]


@pytest.fixture
def raster(tmp_path):
    profile = {"driver": "GTiff", "width": 40, "height": 30, "count": 1, "dtype": "uint8"}
    path = tmp_path / "source.tif"
    with rasterio.open(path, "w", crs="EPSG:4326", transform=from_origin(0, 3, 0.1, 0.1), **profile) as new:
        new.write(np.arange(1200, dtype="uint8").reshape(1, 30, 40))
    with Raster(path) as raster:
        yield raster


@pytest.mark.fault(
    "a file `map.base.tif` beside `map.tif`", sees="it is left alone", requests="those of the read"
)
def test_extract_leaves_the_users_files_alone(raster, tmp_path):
    """An earlier version wrote to map.base.tif beside the map, and deleted it."""
    other = tmp_path / "map.base.tif"
    other.write_text("five years of work")
    (tmp_path / "real.tif").touch(0o600)
    (tmp_path / "map.tif").symlink_to("real.tif")
    extract(raster, tmp_path / "map.tif", whole(raster.dataset))
    with rasterio.open(tmp_path / "real.tif") as copied:
        np.testing.assert_array_equal(copied.read(), raster.dataset.read())
    assert other.read_text() == "five years of work"
    assert (tmp_path / "map.tif").is_symlink()
    assert mode(tmp_path / "real.tif") == 0o600
    assert {path.name for path in files_in(tmp_path)} == {"map.base.tif", "map.tif", "real.tif", "source.tif"}


def test_extract_to_a_device(raster):
    extract(raster, os.devnull, whole(raster.dataset))
    assert not os.path.isfile(os.devnull)
