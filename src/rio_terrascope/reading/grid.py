"""From coordinates to pixels: the window of a box, the pixels of points, the blocks of a window.

A pixel owns its top and left edges, but not its bottom and right ones (half-open). Two boxes with a
common edge therefore have no common pixel, if that edge is on the pixel grid.
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

# In pixels. A position that is nearer than this to an edge between pixels counts as on the edge: the
# coordinate 6 + 7 / 12000 is on an edge, but in floating point it is off by about 1e-10 of a pixel.
ON_THE_EDGE = 1e-6

BYTES_AT_ONCE = 2**20  # in one read: a block of WorldCover

_CHUNK = 100_000  # points reprojected at once, because rasterio makes Python lists of them


def floor_pixel(position: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Round fractional pixel positions down, but positions on an edge to that edge."""
    position = np.asarray(position, dtype=np.float64)
    nearest = np.rint(position)
    rounded: npt.NDArray[np.float64] = np.where(
        np.abs(position - nearest) < ON_THE_EDGE, nearest, np.floor(position)
    )
    return rounded


def bounds_window(dataset: Any, bbox: Sequence[float], *, crs: Any = "EPSG:4326") -> Window:
    """Find the pixels of a dataset that overlap a box.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
        Or any object with ``transform``, ``width``, ``height``, ``crs`` and ``bounds``.
    bbox : sequence of float
        West, south, east, north: the half-open box [west, east) x [south, north).
    crs : CRS-like or None
        The CRS of the box; None stands for the dataset's own.

    Returns
    -------
    rasterio.windows.Window
        Whole pixels, clipped to the dataset.

    Raises
    ------
    ValueError
        If the box is empty, is not finite, or lies outside the dataset.

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
        # the edges become curves: 21 points on each, rasterio's default
        box = transform_bounds(given, own, *box, densify_pts=21)
        if not all(map(math.isfinite, box)) or box[0] >= box[2]:
            raise ValueError(f"the box {tuple(bbox)} cannot be expressed in the raster's CRS, {own}.")
    left, bottom, right, top = box
    inverse = ~dataset.transform  # for a rotated raster, the window encloses the box
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
        Whole pixels.
    block_shape : tuple of int
        Rows and columns of a block, as in ``dataset.block_shapes[0]``.
    blocks : tuple of int
        How many blocks go into one part, down and across.

    Yields
    ------
    rasterio.windows.Window
        The parts, row by row. Together they cover the window.
    """
    height, width = block_shape[0] * blocks[0], block_shape[1] * blocks[1]
    for row_start, row_stop in cuts(window.row_off, window.height, height):
        for col_start, col_stop in cuts(window.col_off, window.width, width):
            yield Window(col_start, row_start, col_stop - col_start, row_stop - row_start)


def cut_window(window: Window, block_shape: tuple[int, int], pixel_bytes: int) -> Iterator[Window]:
    """Cut a window along block edges into reads of at most 1 MiB, but at least one block.

    Each read is as wide as possible, because the blocks of a row follow each other in the file, and are
    fetched in one request.

    Parameters
    ----------
    window, block_shape
        As in `block_windows`.
    pixel_bytes : int
        The size of a pixel, in all bands that are read.

    Yields
    ------
    rasterio.windows.Window
        The reads, row by row. Together they cover the window.
    """
    blocks = max(1, BYTES_AT_ONCE // (block_shape[0] * block_shape[1] * pixel_bytes))
    across = min(blocks, -(-window.width // block_shape[1]))
    yield from block_windows(window, block_shape, blocks=(blocks // across, across))


def cuts(offset: int, length: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut a range at the multiples of a step; yield the start and stop of each part."""
    start, end = int(offset), int(offset + length)
    while start < end:
        stop = min(end, (start // step + 1) * step)
        yield start, stop
        start = stop


def check_bbox(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """Return a box as four floats, or raise ValueError unless west < east and south < north."""
    west, south, east, north = _finite_box(bbox)
    if south >= north:
        raise ValueError(f"the box {tuple(bbox)} has its south ({south}) at or above its north ({north}).")
    if west >= east:
        raise ValueError(
            f"the box {tuple(bbox)} has its west ({west}) at or beyond its east ({east}). "
            "If it crosses the antimeridian, read its two halves."
        )
    return west, south, east, north


def check_world_bbox(
    bbox: Sequence[float], *, may_be_empty: bool = False
) -> tuple[float, float, float, float]:
    """Return a box in degrees as four floats, or raise ValueError.

    If its west is greater than its east, it crosses the antimeridian.
    """
    west, south, east, north = _finite_box(bbox)
    if south > north:
        raise ValueError(f"the box {tuple(bbox)} has its south ({south}) above its north ({north}).")
    if south < -90 or north > 90:
        raise ValueError(f"the box {tuple(bbox)} reaches beyond the poles; it is west, south, east, north.")
    if not (-180 <= west <= 180 and -180 <= east <= 180):
        raise ValueError(
            f"the box {tuple(bbox)} reaches beyond 180 degrees. To cross the antimeridian, give west > east."
        )
    if not may_be_empty and (west == east or south == north):
        raise ValueError(f"the box {tuple(bbox)} is empty.")
    return west, south, east, north


def _finite_box(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = (float(value) for value in bbox)
    except (TypeError, ValueError):
        raise ValueError(f"a box is four numbers, west, south, east, north; this is {bbox!r}.") from None
    if not all(map(math.isfinite, (west, south, east, north))):
        raise ValueError(f"the box {tuple(bbox)} is not finite.")
    return west, south, east, north


def reproject(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], source: Any, target: Any
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Reproject points. A point outside the target CRS becomes infinite or NaN, and so lies in no raster."""
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
        0 for points outside the raster.
    inside : array of bool, shape (points,)
        Whether each point lies in the raster. The right and bottom edges lie outside.
    """
    inverse = ~affine
    with np.errstate(invalid="ignore"):
        columns = floor_pixel(inverse.a * x + inverse.b * y + inverse.c)
        rows = floor_pixel(inverse.d * x + inverse.e * y + inverse.f)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    columns[~inside] = rows[~inside] = 0
    return rows.astype(np.int64), columns.astype(np.int64), inside
