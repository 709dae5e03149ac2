"""Whether GDAL knew where the blocks are that it has read: those that it cannot find become zeros."""

import functools
from typing import Any

from rasterio.enums import Interleaving
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope.errors import with_next_step
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.options import LAZY_OFFSETS
from rio_terrascope.reading.datasets import is_http, open_dataset, open_early


def check_located(dataset: Any, window: Window, shape: tuple[int, int] | None = None) -> None:
    """See that GDAL knew where the blocks are that it has just read for a window.

    libtiff reads the places of a few hundred blocks at a time. Where that fails, and the window reaches
    over several blocks, GDAL goes on, and takes those blocks for empty: zeros, and no error, now and for
    as long as the dataset is open. (`GTiffRasterBand::CacheMultiRange` in GDAL's gtiffrasterband_read.cpp
    asks for places without asking for errors, and remembers a place of 0 as that of a sparse tile.)

    Makes no request, but where a block is without a place: then the file is opened anew, to see
    whether it is one without pixels, as a sparse file has them.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
    window : rasterio.windows.Window
    shape : tuple of int, optional
        Rows and columns that the window was read in, if they are fewer than its own.

    Raises
    ------
    rasterio.errors.RasterioIOError
        If GDAL did not know.
    """
    if dataset.driver != "GTiff" or not is_http(dataset.name) or libgdal.why_not_scoped() is not None:
        return
    level, blocks = _blocks(dataset, window, shape or (window.height, window.width))
    unknown = _without_place(dataset, level, blocks)
    if unknown:
        with open_early(dataset.name) as whole:
            if _without_place(whole, level, unknown) != unknown:
                raise RasterioIOError(
                    with_next_step("GDAL could not read the block offsets", "open the file again")
                )


def _blocks(dataset: Any, window: Window, shape: tuple[int, int]) -> tuple[int | None, list[tuple[int, int]]]:
    """Return the number of the overview that GDAL reads a window from, and the (x, y) of its blocks there."""
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
    """Return the block size of an overview, which rasterio tells of a dataset of its own only."""
    with libgdal.for_this_thread(LAZY_OFFSETS, "YES"), open_dataset(url, OVERVIEW_LEVEL=level) as overview:
        shape: tuple[int, int] = overview.block_shapes[0]
        return shape


@libgdal.quiet()
def _without_place(dataset: Any, level: int | None, blocks: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return those of the blocks that have no place in the file, in some band."""
    bands = dataset.indexes if dataset.interleaving == Interleaving.band else dataset.indexes[:1]
    return [
        (x, y)
        for x, y in blocks
        if any(
            dataset.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band, ovr=level) is None
            for band in bands
        )
    ]
