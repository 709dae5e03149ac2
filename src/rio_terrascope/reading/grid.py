"""From coordinates to pixels: windows of boxes, pixels of points, blocks of windows.

A pixel owns its top and left edges and not its bottom and right ones (half-open), so two boxes that
share an edge share no pixel where that edge is on the pixel grid.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform, transform_bounds
from rasterio.windows import Window

# In pixels. What is nearer than this to an edge between pixels is taken to be on it: a coordinate such
# as 6 + 7 / 12000 is an edge, and floating point misses it by some 1e-10 of a pixel.
ON_THE_EDGE = 1e-6

BYTES_AT_ONCE = 16 * 2**20  # one read: 16 blocks of WorldCover

_CHUNK = 100_000  # points that rasterio reprojects at once: it makes Python lists of them


def floor_pixel(position: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Round fractional pixel positions down, those on an edge to that edge."""
    position = np.asarray(position, dtype=np.float64)
    nearest = np.rint(position)
    rounded: npt.NDArray[np.float64] = np.where(
        np.abs(position - nearest) < ON_THE_EDGE, nearest, np.floor(position)
    )
    return rounded


def bounds_window(dataset: Any, bbox: Sequence[float], *, crs: Any = "EPSG:4326") -> Window:
    """Find the pixels of a dataset that a box has a share of.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
        Or anything else with ``transform``, ``width``, ``height`` and ``crs``.
    bbox : sequence of float
        West, south, east, north: the half-open box [west, east) x [south, north).
    crs : CRS-like or None
        What the box is in; None: the dataset's own CRS.

    Returns
    -------
    rasterio.windows.Window
        Of whole pixels, clipped to the dataset.

    Raises
    ------
    ValueError
        If the box is empty, is not finite, or lies outside of the dataset.

    Examples
    --------
    >>> with rasterio.open(url) as dataset:  # doctest: +SKIP
    ...     window = bounds_window(dataset, (6.5, 0.0, 6.75, 0.5))
    ...     window.width, window.height
    (3000, 6000)
    """
    box = check_bbox(bbox)
    own = dataset.crs
    if crs is not None and own is not None and (given := CRS.from_user_input(crs)) != own:
        # the edges bend: 21 points on each, rasterio's own habit
        box = transform_bounds(given, own, *box, densify_pts=21)
        if not all(map(math.isfinite, box)) or box[0] >= box[2]:
            raise ValueError(f"the box {tuple(bbox)} cannot be expressed in the raster's CRS, {own}.")
    left, bottom, right, top = box
    inverse = ~dataset.transform  # of a rotated raster: the window around the box
    corners = [(x, y) for x in (left, right) for y in (bottom, top)]
    columns = [inverse.a * x + inverse.b * y + inverse.c for x, y in corners]
    rows = [inverse.d * x + inverse.e * y + inverse.f for x, y in corners]
    col_start, row_start = (max(0, int(floor_pixel(min(side)))) for side in (columns, rows))
    # the same rounding upwards: -floor(-x)
    col_stop = min(dataset.width, int(-floor_pixel(-max(columns))))
    row_stop = min(dataset.height, int(-floor_pixel(-max(rows))))
    if col_start >= col_stop or row_start >= row_stop:
        raise ValueError(
            f"the box {tuple(bbox)} lies outside of the raster, "
            f"whose bounds are {tuple(dataset.bounds)} in {own}."
        )
    return Window(col_start, row_start, col_stop - col_start, row_stop - row_start)


def block_windows(
    window: Window, block_shape: tuple[int, int], *, blocks: tuple[int, int] = (1, 1)
) -> Iterator[Window]:
    """Cut a window along the edges of a dataset's blocks.

    Parameters
    ----------
    window : rasterio.windows.Window
        Of whole pixels.
    block_shape : tuple of int
        Rows and columns of a block, as in ``dataset.block_shapes[0]``.
    blocks : tuple of int
        Blocks in one piece, down and across.

    Yields
    ------
    rasterio.windows.Window
        The pieces, row by row; together they are the window.
    """
    height, width = block_shape[0] * blocks[0], block_shape[1] * blocks[1]
    for row_start, row_stop in _cuts(window.row_off, window.height, height):
        for col_start, col_stop in _cuts(window.col_off, window.width, width):
            yield Window(col_start, row_start, col_stop - col_start, row_stop - row_start)


def cut_window(window: Window, block_shape: tuple[int, int], pixel_bytes: int) -> Iterator[Window]:
    """Cut a window into reads of whole blocks, each of at most 16 MiB.

    A read is as wide as that allows. Blocks of a row follow each other in the file, so GDAL fetches
    them in one request.

    Parameters
    ----------
    window : rasterio.windows.Window
        Of whole pixels.
    block_shape : tuple of int
        Rows and columns of a block.
    pixel_bytes : int
        The bytes of a pixel in all bands that are read.

    Yields
    ------
    rasterio.windows.Window
        The reads, row by row; together they are the window.
    """
    blocks = max(1, BYTES_AT_ONCE // (block_shape[0] * block_shape[1] * pixel_bytes))
    across = min(blocks, -(-window.width // block_shape[1]))
    yield from block_windows(window, block_shape, blocks=(blocks // across, across))


def _cuts(offset: int, length: int, step: int) -> Iterator[tuple[int, int]]:
    start, end = int(offset), int(offset + length)
    while start < end:
        stop = min(end, (start // step + 1) * step)
        yield start, stop
        start = stop


def check_bbox(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """Return a box as four floats, west < east and south < north, or raise ValueError."""
    west, south, east, north = box_numbers(bbox)
    if not all(map(math.isfinite, (west, south, east, north))):
        raise ValueError(f"the box {tuple(bbox)} is not finite.")
    if south >= north:
        raise ValueError(f"the box {tuple(bbox)} has its south ({south}) at or above its north ({north}).")
    if west >= east:
        raise ValueError(
            f"the box {tuple(bbox)} has its west ({west}) at or beyond its east ({east}). "
            "Where it crosses the antimeridian, read its two halves."
        )
    return west, south, east, north


def box_numbers(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """Return a box as four floats, or raise ValueError."""
    try:
        west, south, east, north = (float(value) for value in bbox)
    except (TypeError, ValueError):
        raise ValueError(f"a box is four numbers, west, south, east, north; this is {bbox!r}.") from None
    return west, south, east, north


def reproject(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], source: Any, target: Any
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Reproject points; those that cannot be become infinite or NaN, and so are in no raster."""
    if source == target:
        return x, y
    xs, ys = np.empty_like(x), np.empty_like(y)
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        xs[part], ys[part] = transform(source, target, x[part], y[part])
    return xs, ys


def pixels_of(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], affine: Affine, width: int, height: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Find the pixels of points.

    Returns
    -------
    rows, columns : array of int, shape (points,)
        Meaningless where `inside` is False.
    inside : array of bool, shape (points,)
        Whether the point is in the raster: its right and bottom edges are not.
    """
    inverse = ~affine
    with np.errstate(invalid="ignore"):
        columns = floor_pixel(inverse.a * x + inverse.b * y + inverse.c)
        rows = floor_pixel(inverse.d * x + inverse.e * y + inverse.f)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    columns[~inside] = rows[~inside] = 0
    return rows.astype(np.int64), columns.astype(np.int64), inside
