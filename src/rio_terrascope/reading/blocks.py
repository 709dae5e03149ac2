"""Which blocks of a file GDAL reads for a window, and where they lie."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope.reading.tiff import Image, Layout, Range, joined

Ints = npt.NDArray[np.int64]


def window_ranges(
    layout: Layout,
    window: Window,
    shape: tuple[int, int],
    bands: Sequence[int],
    *,
    masks: bool = False,
) -> list[Range]:
    """Return where the blocks lie that GDAL reads for a window.

    Parameters
    ----------
    layout : Layout
    window : rasterio.windows.Window
        Whole pixels, within the raster.
    shape : tuple of int
        The rows and columns to read it in, by the nearest pixels. GDAL takes an overview for that if
        GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD is 1.
    bands : sequence of int
        From 1.
    masks : bool
        Whether the masks of the bands are read, too.

    Returns
    -------
    list of (offset, length)
        In bytes; in order, each once. Sparse blocks have none.

    Raises
    ------
    rasterio.errors.RasterioIOError
        If a block lies outside of the file.
    """
    found = [
        _planes(
            image, _numbers(full, image, window, shape), bands if is_mask else _bands(layout, bands, masks)
        )
        for is_mask, (full, image) in enumerate(_images(layout, window, shape, masks))
    ]
    ranges = {tuple(block) for part in found for block in _checked(layout, part).reshape(-1, 2).tolist()}
    return sorted((offset, length) for offset, length in ranges if length)


def missing_arrays(
    layout: Layout, window: Window, shape: tuple[int, int], *, masks: bool = False
) -> list[Range]:
    """Return the ranges without which `window_ranges` cannot tell the blocks: arrays that were left out.

    Parameters are as for `window_ranges`. Mostly nothing is missing.
    """
    images = [image for _, image in _images(layout, window, shape, masks)]
    return joined(itertools.chain(*(image.absent for image in images)), layout.size)


def _bands(layout: Layout, bands: Sequence[int], masks: bool) -> Sequence[int]:
    """Return the bands that GDAL reads, with those that say which pixels are valid."""
    image = layout.levels[0].image
    if masks and layout.mask_needs_all_bands:
        return range(1, image.bands + 1)
    if masks and image.has_alpha:
        return [*bands, image.bands]
    return bands


def _planes(image: Image, numbers: Ints, bands: Sequence[int]) -> Ints:
    """Return the extents of blocks in the planes of bands, of shape (blocks, planes, 2)."""
    planes = np.unique([band - 1 for band in bands]) if image.planes > 1 else np.zeros(1, np.int64)
    at = numbers[:, None] + planes * (image.across * image.down)
    return np.stack([image.offsets[at], image.sizes[at]], axis=-1)


def _checked(layout: Layout, extents: Ints) -> Ints:
    offsets, lengths = extents[..., 0], extents[..., 1]
    outside = (offsets < 0) | (lengths < 0) | (offsets > layout.size - lengths)
    for start, length in layout.left_out:
        outside |= (offsets < start + length) & (offsets > start - lengths)
    if (outside & (lengths != 0)).any():
        raise RasterioIOError(
            "a block lies outside of the file or in its header: that is damaged, or the end is missing"
        )
    return extents


def _images(layout: Layout, window: Window, shape: tuple[int, int], masks: bool) -> list[tuple[Image, Image]]:
    """Return the image at full resolution and the one that GDAL reads; then those of the mask, if any."""
    images = [level.image for level in layout.levels]
    found = [(images[0], images[_best(images, window, shape)])]
    if masks and layout.levels[0].mask is not None:
        images = [level.mask for level in layout.levels if level.mask is not None]
        found.append((images[0], images[_best(images, window, shape)]))
    return found


def _numbers(full: Image, image: Image, window: Window, shape: tuple[int, int]) -> Ints:
    """Return the numbers of the blocks that GDAL reads from an image for a window."""
    down, across = (
        _along(start, length, count, size, reduced, block)
        for start, length, count, size, reduced, block in (
            (window.row_off, window.height, shape[0], full.height, image.height, image.block_height),
            (window.col_off, window.width, shape[1], full.width, image.width, image.block_width),
        )
    )
    return (down[:, None] * image.across + across).ravel()


def _along(start: int, length: int, count: int, size: int, reduced: int, block: int) -> Ints:
    """Return the rows, or columns, of blocks that GDAL reads for `count` pixels over a length.

    `size` is the length of the raster in pixels, and `reduced` the length of the image that is read.
    """
    if size == reduced and length == count:
        return np.arange(start // block, (start + length - 1) // block + 1, dtype=np.int64)
    scale = size / reduced
    # GDAL rounds the window to pixels of the overview if it then has nothing to resample
    whole = min(int(start / scale + 0.5), reduced - 1)
    wide = min(max(1, int(length / scale + 0.5)), reduced - whole)
    pixels = np.concatenate([_nearest(start / scale, length / scale, count), _nearest(whole, wide, count)])
    return np.unique(np.clip(pixels, 0, reduced - 1) // block)


def _nearest(start: float, length: float, count: int) -> Ints:
    """Return the pixels that are nearest to `count` ones over a length, as GDAL chooses them."""
    at: Any = (np.arange(count) + 0.5) * (length / count) + start
    # GDAL adds the steps up, so that a pixel's edge may fall on either side
    return np.floor(np.concatenate([at - 1e-6, at + 1e-6])).astype(np.int64)


def _best(images: list[Image], window: Window, shape: tuple[int, int]) -> int:
    """Return the number of the image that GDAL reads, as `GDALBandGetBestOverviewLevel2` chooses it."""
    full = images[0]
    down, across = window.height / shape[0], window.width / shape[1]
    if down <= 1 and across <= 1:
        return 0
    wanted = across if across < down or shape[0] == 1 else down
    best, number = 0.0, 0
    for i, image in enumerate(images[1:], start=1):
        factor = min(full.width / image.width, full.height / image.height)
        if image.width <= full.width and image.height <= full.height and best < factor < wanted + 0.1:
            best, number = factor, i
    return number
