"""`read_bbox`: read the pixels of one box."""

import math
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.transform import Affine
from rasterio.windows import Window

from rio_terrascope.reading.engine import Engine
from rio_terrascope.reading.grid import ON_THE_EDGE, bounds_window
from rio_terrascope.reading.jobs import Request
from rio_terrascope.reading.parts import Part


def read_bbox(
    url: str | PathLike[str],
    bbox: Sequence[float],
    *,
    crs: Any = "EPSG:4326",
    resolution: float | tuple[float, float] | None = None,
    max_size: int | None = None,
    indexes: int | Sequence[int] | None = None,
    masked: bool = False,
) -> tuple[npt.NDArray[Any], dict[str, Any]]:
    """Read the pixels of a box, from a suitable overview.

    Parameters
    ----------
    url : str or path-like
        A URL or a local file.
    bbox : sequence of float
        West, south, east, north. Every pixel that overlaps the half-open box is read. The part of the box
        outside the raster is ignored.
    crs : CRS-like or None
        The CRS of the box; None stands for the raster's own.
    resolution : float or tuple of float, optional
        The largest pixel size, in units of the raster's CRS (x, y). Pixels are made as large as this
        allows, such that a whole number of them fits the box, but never smaller than the raster's own.
        Default: the raster's own size, unless `max_size` is given.
    max_size : int, optional
        The most pixels along the longer side.
    indexes : int or sequence of int, optional
        The bands to read, from 1. Default: all bands.
    masked : bool
        Return a masked array, as ``dataset.read(masked=True)`` does.

    Returns
    -------
    array : ndarray, shape (bands, rows, cols)
        The pixels, in the raster's dtype. Coarser pixels are the nearest ones of the next finer overview.
    profile : dict
        A profile to write the array with: CRS and nodata of the raster; width, height, count, dtype and
        transform of the array.

    Raises
    ------
    ValueError
        If an argument is invalid, or the box lies outside the raster.
    AccessDeniedError
        If the URL is refused.
    rasterio.errors.RasterioIOError
        If the raster cannot be read for another reason. The message begins with the URL.

    Examples
    --------
    >>> with terrascope_env():  # doctest: +SKIP
    ...     pixels, profile = read_bbox(url, (6.5, 0.0, 6.75, 0.5), max_size=1000)
    """
    # before any request is made
    check_size(resolution, max_size)

    def part(dataset: Any) -> Part:
        window = bounds_window(dataset, bbox, crs=crs)
        bands = check_indexes(indexes, dataset.count, str(url))
        shape = output_shape(dataset, window, resolution=resolution, max_size=max_size)
        return Part(window, shape, bands, masks=masked)

    def read(part: Part, dataset: Any) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        array = part.read(dataset, masked=masked)
        return array, _profile(dataset, part, array.dtype)

    with Engine() as engine:
        return next(engine.run([Request(url, part, read)]))


def output_shape(
    dataset: Any,
    window: Window,
    *,
    resolution: float | tuple[float, float] | None = None,
    max_size: int | None = None,
) -> tuple[int, int]:
    """Return the rows and columns to read a window in. Arguments and errors are as in `read_bbox`."""
    pixel_size = check_size(resolution, max_size)
    if pixel_size is not None:
        return _shape_for_resolution(window, dataset.transform, pixel_size)
    if max_size is not None:
        return _shape_for_size(window, max_size)
    return window.height, window.width


def _profile(dataset: Any, part: Part, dtype: "np.dtype[Any]") -> dict[str, Any]:
    """Return a profile to write the pixels of a part with."""
    profile: dict[str, Any] = dict(dataset.profile)
    profile.update(
        driver="GTiff",
        count=len(part.bands),
        height=part.shape[0],
        width=part.shape[1],
        dtype=dtype.name,
        transform=part.transform(dataset),
    )
    return profile


def check_indexes(indexes: int | Sequence[int] | None, count: int, url: str) -> list[int]:
    """Return the bands as a list, or raise ValueError if the raster does not have one of them."""
    if indexes is None:
        return list(range(1, count + 1))
    bands = [int(index) for index in np.atleast_1d(np.asarray(indexes))]
    if not bands or not all(1 <= band <= count for band in bands):
        raise ValueError(f"indexes is {indexes!r}; {url} has bands 1 to {count}.")
    return bands


def check_size(
    resolution: float | tuple[float, float] | None, max_size: int | None
) -> tuple[float, float] | None:
    """Return the resolution as two floats, or raise ValueError if it or `max_size` is invalid."""
    if resolution is not None and max_size is not None:
        raise ValueError("give resolution or max_size, not both.")
    if max_size is not None and max_size < 1:
        raise ValueError(f"max_size is {max_size}; it must be at least 1.")
    return check_resolution(resolution)


def check_resolution(resolution: float | tuple[float, float] | None) -> tuple[float, float] | None:
    """Return a resolution as two floats, or raise ValueError if one is not positive."""
    if resolution is None:
        return None
    sizes = np.broadcast_to(np.asarray(resolution, dtype=float), (2,))
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ValueError(f"resolution is {resolution!r}; it must be greater than 0.")
    return float(sizes[0]), float(sizes[1])


def _shape_for_resolution(
    window: Window, transform: Affine, resolution: tuple[float, float]
) -> tuple[int, int]:
    # hypot: the raster may be rotated
    pixel = (math.hypot(transform.a, transform.d), math.hypot(transform.b, transform.e))
    columns = math.ceil(window.width * pixel[0] / resolution[0] - ON_THE_EDGE)
    rows = math.ceil(window.height * pixel[1] / resolution[1] - ON_THE_EDGE)
    return max(1, min(rows, window.height)), max(1, min(columns, window.width))


def _shape_for_size(window: Window, max_size: int) -> tuple[int, int]:
    scale = min(1.0, max_size / max(window.height, window.width))
    return max(1, round(window.height * scale)), max(1, round(window.width * scale))
