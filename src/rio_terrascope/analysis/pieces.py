"""A region of a raster, read piece by piece, so that any region fits in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import MaskFlags
from rasterio.transform import Affine
from rasterio.windows import Window

from rio_terrascope.analysis.regions import Region
from rio_terrascope.reading import Progress, block_windows

BYTES_AT_ONCE = 16 * 2**20  # one read: 16 WorldCover blocks side by side, which GDAL fetches in one request
PIXELS_AT_ONCE = 4 * 2**20  # for who computes: temporary arrays of eight bytes a pixel stay small


@dataclass(frozen=True)
class Piece:
    """Pixels of a region.

    Attributes
    ----------
    window : rasterio.windows.Window
        Where they are in the raster.
    pixels : ndarray, shape (bands, rows, columns)
    counts : ndarray of bool, shape (bands, rows, columns)
        Which of them hold data and lie inside of the region's geometries.
    transform : Affine
    """

    window: Window
    pixels: npt.NDArray[Any]
    counts: npt.NDArray[np.bool_]
    transform: Affine


def read_pieces(
    dataset: Any, region: Region, *, bands: Sequence[int] = (1,), progress: Progress | None = None
) -> Iterator[Piece]:
    """Read a region at full resolution, in pieces of a few million pixels.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
    region : Region
    bands : sequence of int
    progress : callable, optional
        Called with the number of pixels read, and of all.

    Yields
    ------
    Piece
        Together they are the region's window.
    """
    total = region.window.width * region.window.height
    done = 0
    for window in read_order(dataset, region.window, len(bands)):
        pixels = dataset.read(list(bands), window=window)
        counts = has_data(dataset, pixels, window, bands)
        for rows in _cuts(window, len(bands)):
            part = Window(window.col_off, window.row_off + rows.start, window.width, rows.stop - rows.start)
            transform = dataset.window_transform(part)
            inside = counts[:, rows]
            if region.geometries:
                inside = inside & ~region.outside(transform, (part.height, part.width))
            yield Piece(part, pixels[:, rows], inside, transform)
        done += window.width * window.height
        if progress is not None:
            progress(done, total)


def read_order(dataset: Any, window: Window, count: int) -> Iterator[Window]:
    """Cut a window into reads of whole blocks, as wide as fits, since blocks of a row follow each other."""
    rows, columns = dataset.block_shapes[0]
    itemsize = max(np.dtype(dtype).itemsize for dtype in dataset.dtypes)
    blocks = max(1, BYTES_AT_ONCE // (rows * columns * count * itemsize))
    across = max(1, min(blocks, -(-window.width // columns)))
    yield from block_windows(window, (rows, columns), blocks=(max(1, blocks // across), across))


def has_data(
    dataset: Any, pixels: npt.NDArray[Any], window: Window, bands: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Tell of each pixel whether it holds data: by the nodata value, or whatever mask the raster has."""
    if has_mask(dataset, bands):
        return np.asarray(dataset.read_masks(list(bands), window=window, out_shape=pixels.shape) != 0)
    counts = np.ones(pixels.shape, bool)
    for index, band in enumerate(bands):
        nodata = dataset.nodatavals[band - 1]
        if nodata is not None:
            # NaN is no data whatever the nodata value is
            counts[index] = ~np.isnan(pixels[index]) if np.isnan(nodata) else pixels[index] != nodata
    return counts


def has_mask(dataset: Any, bands: Sequence[int]) -> bool:
    """Tell whether more than a nodata value says where there is data: a mask band, an alpha band."""
    plain = ([MaskFlags.nodata], [MaskFlags.all_valid])
    return any(dataset.mask_flag_enums[band - 1] not in plain for band in bands)


def _cuts(window: Window, count: int) -> Iterator[slice]:
    step = max(1, PIXELS_AT_ONCE // (window.width * count))
    for start in range(0, window.height, step):
        yield slice(start, min(start + step, window.height))
