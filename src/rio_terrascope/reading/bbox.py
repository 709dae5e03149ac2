"""`read_bbox`: the pixels of one box."""

import contextlib
import math
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.transform import Affine
from rasterio.windows import Window

from rio_terrascope.reading.block_offsets import check_located
from rio_terrascope.reading.datasets import Datasets
from rio_terrascope.reading.grid import ON_THE_EDGE, bounds_window

# GDAL takes an overview that is up to 1.2 times too coarse, and repeats some of its pixels. 1: never.
NEVER_UPSAMPLE = {"GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD": "1"}


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
    """Read the pixels of a box, from the overview that fits.

    Parameters
    ----------
    url : str or path-like
        A raster: a URL, or a local file.
    bbox : sequence of float
        West, south, east, north. All pixels that the half-open box has a share of are read; what of it
        lies outside of the raster is left out.
    crs : CRS-like or None
        What the box is in; None: the raster's own CRS.
    resolution : float or tuple of float, optional
        Largest size of a pixel, in units of the raster's CRS (x, y); native where neither this nor
        `max_size` is given. The pixels come out as large as fits the box in whole pixels, never
        larger than this, and never smaller than the raster's own: nothing is upsampled.
    max_size : int, optional
        Most pixels along the longer side.
    indexes : int or sequence of int, optional
        Bands, from 1; all where not given.
    masked : bool
        Return a masked array, no data masked.

    Returns
    -------
    array : ndarray, shape (bands, rows, cols)
        In the raster's dtype. Coarser pixels are the nearest ones of the next finer overview.
    profile : dict
        To write the array with: the raster's CRS and nodata, the array's width, height, count, dtype
        and transform.

    Raises
    ------
    ValueError
        If an argument makes no sense, or the box lies outside of the raster.
    AccessDeniedError
        If the URL is refused.
    rasterio.errors.RasterioIOError
        If it cannot be read for another reason; the message begins with the URL.

    Examples
    --------
    >>> with terrascope_env():  # doctest: +SKIP
    ...     pixels, profile = read_bbox(url, (6.5, 0.0, 6.75, 0.5), max_size=1000)
    """
    # before anything is asked of a server
    check_size(resolution, max_size)

    def read(dataset: Any) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        window = bounds_window(dataset, bbox, crs=crs)
        bands = check_indexes(indexes, dataset.count, str(url))
        shape = output_shape(dataset, window, resolution=resolution, max_size=max_size)
        array = read_shape(dataset, window, shape, bands, masked=masked)
        return array, profile_of(dataset, window, array)

    with Datasets(keep=1) as datasets:
        return datasets.read(url, read)


def output_shape(
    dataset: Any,
    window: Window,
    *,
    resolution: float | tuple[float, float] | None = None,
    max_size: int | None = None,
) -> tuple[int, int]:
    """Return the rows and columns that a window is read in; arguments and errors as of `read_bbox`."""
    pixel_size = check_size(resolution, max_size)
    if pixel_size is not None:
        return _shape_for_resolution(window, dataset.transform, pixel_size)
    if max_size is not None:
        return _shape_for_size(window, max_size)
    return window.height, window.width


def read_shape(
    dataset: Any, window: Window, shape: tuple[int, int], bands: Sequence[int], *, masked: bool = False
) -> npt.NDArray[Any]:
    """Read a window at most as large as it is, from an overview at least as fine as the shape."""
    native = shape == (window.height, window.width)
    with contextlib.nullcontext() if native else rasterio.Env(**NEVER_UPSAMPLE):
        array: npt.NDArray[Any] = dataset.read(
            list(bands), window=window, out_shape=(len(bands), *shape), masked=masked
        )
    check_located(dataset, window, shape)
    return array


def read_transform(dataset: Any, window: Window, shape: tuple[int, int]) -> Affine:
    """Return the transform of a window that is read in a shape."""
    native = dataset.window_transform(window)
    x, y = window.width / shape[1], window.height / shape[0]
    return Affine(native.a * x, native.b * y, native.c, native.d * x, native.e * y, native.f)


def profile_of(dataset: Any, window: Window, array: npt.NDArray[Any]) -> dict[str, Any]:
    """Return a profile to write an array of a window of the dataset with."""
    count, rows, columns = array.shape
    profile: dict[str, Any] = dict(dataset.profile)
    profile.update(
        driver="GTiff",
        count=count,
        height=rows,
        width=columns,
        dtype=array.dtype.name,
        transform=read_transform(dataset, window, (rows, columns)),
    )
    return profile


def check_indexes(indexes: int | Sequence[int] | None, count: int, url: str) -> list[int]:
    """Return bands as a list, or raise ValueError."""
    if indexes is None:
        return list(range(1, count + 1))
    bands = [int(index) for index in np.atleast_1d(np.asarray(indexes))]
    if not bands or not all(1 <= band <= count for band in bands):
        raise ValueError(f"indexes is {indexes!r}; {url} has bands 1 to {count}.")
    return bands


def check_size(
    resolution: float | tuple[float, float] | None, max_size: int | None
) -> tuple[float, float] | None:
    """Return the resolution as two floats, or raise ValueError where the two make no sense."""
    if resolution is not None and max_size is not None:
        raise ValueError("give resolution or max_size, not both.")
    if max_size is not None and max_size < 1:
        raise ValueError(f"max_size is {max_size}; it has to be at least 1.")
    return check_resolution(resolution)


def check_resolution(resolution: float | tuple[float, float] | None) -> tuple[float, float] | None:
    """Return a resolution as two positive floats, or raise ValueError."""
    if resolution is None:
        return None
    sizes = np.broadcast_to(np.asarray(resolution, dtype=float), (2,))
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ValueError(f"resolution is {resolution!r}; it has to be greater than 0.")
    return float(sizes[0]), float(sizes[1])


def _shape_for_resolution(
    window: Window, transform: Affine, resolution: tuple[float, float]
) -> tuple[int, int]:
    # of a rotated raster too: the length of a step along each axis
    pixel = (math.hypot(transform.a, transform.d), math.hypot(transform.b, transform.e))
    columns = math.ceil(window.width * pixel[0] / resolution[0] - ON_THE_EDGE)
    rows = math.ceil(window.height * pixel[1] / resolution[1] - ON_THE_EDGE)
    return max(1, min(rows, window.height)), max(1, min(columns, window.width))


def _shape_for_size(window: Window, max_size: int) -> tuple[int, int]:
    scale = min(1.0, max_size / max(window.height, window.width))
    return max(1, round(window.height * scale)), max(1, round(window.width * scale))
