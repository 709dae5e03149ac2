"""Check that GDAL could read the block offsets. If it could not, it returns zeros without an error."""

import functools
from typing import Any

from rasterio.enums import Interleaving
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope.errors import with_next_step
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.opening import is_http
from rio_terrascope.gdal.options import LAZY_OFFSETS
from rio_terrascope.reading.datasets import open_dataset, open_with_offsets


def check_block_offsets(dataset: Any, window: Window, shape: tuple[int, int] | None = None) -> None:
    """Check that GDAL knew the offsets of the blocks that it has just read for a window.

    libtiff reads the offsets of a few hundred blocks at a time. If that fails, and the window covers
    several blocks, GDAL takes those blocks for empty: it returns zeros without an error, for as long as
    the dataset is open. (`GTiffRasterBand::CacheMultiRange` in GDAL's gtiffrasterband_read.cpp reads
    offsets without looking for errors, and takes an offset of 0 for a sparse tile.)

    Makes no request unless an offset is missing. Then it reopens the file to find out whether the block
    is sparse.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
    window : rasterio.windows.Window
    shape : tuple of int, optional
        Rows and columns of the array, if the window was read at a coarser resolution.

    Raises
    ------
    rasterio.errors.RasterioIOError
        If GDAL did not know an offset.
    """
    if dataset.driver != "GTiff" or not is_http(dataset.name) or libgdal.why_not_scoped() is not None:
        return
    level, blocks = _blocks(dataset, window, shape or (window.height, window.width))
    missing = _without_offset(dataset, level, blocks)
    if missing:
        with open_with_offsets(dataset.name) as whole:
            if _without_offset(whole, level, missing) != missing:
                raise RasterioIOError(
                    with_next_step("GDAL could not read the block offsets", "open the file again")
                )


def _blocks(dataset: Any, window: Window, shape: tuple[int, int]) -> tuple[int | None, list[tuple[int, int]]]:
    """Return the overview that GDAL reads a window from, and the (x, y) of the window's blocks there."""
    factor = min(window.height / shape[0], window.width / shape[1])
    overviews = dict(enumerate(dataset.overviews(1))) if factor > 1 else {}
    # as GDALBandGetBestOverviewLevel2 does with an oversampling threshold of 1
    fit = [level for level, overview in overviews.items() if overview < factor + 0.1]
    level = max(fit, key=overviews.__getitem__, default=None)
    if level is None:
        step, (height, width) = 1, dataset.block_shapes[0]
    else:
        step, (height, width) = overviews[level], _overview_blocks(dataset.name, level)
    rows, columns = -(-dataset.height // step), -(-dataset.width // step)
    top, bottom = window.row_off // step // height, (window.row_off + window.height - 1) // step // height
    left, right = window.col_off // step // width, (window.col_off + window.width - 1) // step // width
    return level, [
        (x, y)
        for y in range(int(top), min(int(bottom), (rows - 1) // height) + 1)
        for x in range(int(left), min(int(right), (columns - 1) // width) + 1)
    ]


@functools.lru_cache(maxsize=256)
def _overview_blocks(url: str, level: int) -> tuple[int, int]:
    """Return the block size of an overview. rasterio needs a dataset of its own for that."""
    with libgdal.for_this_thread(LAZY_OFFSETS, "YES"), open_dataset(url, OVERVIEW_LEVEL=level) as overview:
        shape: tuple[int, int] = overview.block_shapes[0]
        return shape


@libgdal.quiet()
def _without_offset(dataset: Any, level: int | None, blocks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the blocks without an offset in at least one band."""
    bands = dataset.indexes if dataset.interleaving == Interleaving.band else dataset.indexes[:1]
    return [
        (x, y)
        for x, y in blocks
        if any(
            dataset.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band, ovr=level) is None
            for band in bands
        )
    ]
