"""GDAL returns zeros for blocks whose offsets it could not read: the package's functions notice."""

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from helpers import LAND
from rio_terrascope import read_windows, terrascope_env
from rio_terrascope.errors import AccessDeniedError
from rio_terrascope.reading.bbox import read_shape
from rio_terrascope.reading.block_offsets import check_block_offsets
from rio_terrascope.reading.datasets import Datasets

SOON = {"GDAL_HTTP_RETRY_DELAY": 0.02}
OVER_FOUR_BLOCKS = Window(16384 - 128, 16384 - 128, 256, 256)
LAND_WINDOW = Window(*LAND)
TRANSFORM = rasterio.Affine(10, 0, 0, 0, -10, 0)


@pytest.fixture(params=range(1, 7), ids=lambda times: f"{times} requests")
def refused(sandbox, request):
    """Return a function that makes the server refuse a number of requests, which GDAL does not repeat."""
    return lambda: sandbox.fail(403, times=request.param)


def test_windows(sandbox, local, refused):
    url = sandbox.url()
    with terrascope_env(**SOON) as env:
        results = read_windows([(url, Window(0, 0, 8, 8)), (url, OVER_FOUR_BLOCKS)], max_workers=1)
        next(results)
        env.forget(url)  # GDAL does the same when its cache is full
        refused()
        try:
            pixels = next(results)
        except (RasterioIOError, AccessDeniedError):
            return
        np.testing.assert_array_equal(pixels, local.read(window=OVER_FOUR_BLOCKS))


@pytest.mark.parametrize("size", [100, 700])
def test_overviews(sandbox, local, refused, size):
    shape = (size, size * LAND_WINDOW.width // LAND_WINDOW.height)
    with terrascope_env(**SOON) as env, Datasets(keep=1) as datasets:
        datasets.read(sandbox.url(), lambda dataset: dataset.overviews(1))
        env.forget(sandbox.url())
        refused()
        try:
            pixels = datasets.read(
                sandbox.url(), lambda dataset: read_shape(dataset, LAND_WINDOW, shape, [1])
            )
        except (RasterioIOError, AccessDeniedError):
            return
        np.testing.assert_array_equal(pixels, read_shape(local, LAND_WINDOW, shape, [1]))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_files_that_lack_blocks_are_read(sandbox, tmp_path, interleave):
    """A sparse file has blocks without an offset, which really are zeros."""
    file = tmp_path / "sparse.tif"
    layout = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    with rasterio.open(
        file, "w", driver="GTiff", width=512, height=512, count=2, dtype="uint8", nodata=0,
        interleave=interleave, sparse_ok=True, transform=TRANSFORM, **layout,
    ) as dataset:  # fmt: skip
        dataset.write(np.full((2, 128, 128), 7, np.uint8), window=Window(128, 0, 128, 128))
    with rasterio.open(file) as dataset:
        assert dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1) is None
        expected = dataset.read()
    assert 0 < np.count_nonzero(expected) < expected.size
    url = sandbox.add_file(file, "/download/sparse.tif")
    with terrascope_env():
        (pixels,) = read_windows([(url, Window(0, 0, 512, 512))])
    np.testing.assert_array_equal(pixels, expected)


def test_a_mask_of_its_own(sandbox, tmp_path):
    """The offsets of a mask's blocks cannot be queried, so all are read when the file is opened."""
    file = tmp_path / "masked.tif"
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            file, "w", driver="GTiff", width=512, height=512, count=1, dtype="uint8",
            tiled=True, blockxsize=128, blockysize=128, compress="deflate", transform=TRANSFORM,
        ) as dataset,
    ):  # fmt: skip
        dataset.write(np.full((512, 512), 7, np.uint8), 1)
        dataset.write_mask(np.indices((512, 512)).sum(axis=0) % 3 == 0)
    url = sandbox.add_file(file, "/download/masked.tif")
    window = Window(100, 100, 100, 100)
    with terrascope_env(), rasterio.open(file) as local:
        (pixels,) = read_windows([(url, window)], masked=True)
        expected = local.read(window=window, masked=True)
    np.testing.assert_array_equal(pixels.mask, expected.mask)
    np.testing.assert_array_equal(pixels.data, expected.data)


def test_it_asks_for_nothing(sandbox):
    """Checking the offsets of blocks that have been read makes no request."""
    shape = (300, 300)
    with terrascope_env() as env, env.open(sandbox.url()) as dataset:
        read_shape(dataset, LAND_WINDOW, shape, [1])
        dataset.read(1, window=OVER_FOUR_BLOCKS)
        sandbox.clear()
        check_block_offsets(dataset, LAND_WINDOW, shape)
        check_block_offsets(dataset, OVER_FOUR_BLOCKS)
        assert sandbox.requests("data") == []
