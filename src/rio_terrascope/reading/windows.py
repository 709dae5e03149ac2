"""`read_windows`: read many windows of many files."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from os import PathLike, fspath
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from rio_terrascope.reading.bbox import check_indexes
from rio_terrascope.reading.engine import Engine, Progress
from rio_terrascope.reading.jobs import Request
from rio_terrascope.reading.parts import Part


def read_windows(
    requests: Iterable[tuple[str | PathLike[str], Window]],
    *,
    indexes: int | Sequence[int] | None = None,
    masked: bool = False,
    max_workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[npt.NDArray[Any]]:
    """Read windows of files, several at once.

    Parameters
    ----------
    requests : iterable of (url, window)
        Rasters, each with a window of whole pixels. The iterable may be endless: it is consumed as the
        arrays are taken.
    indexes : int or sequence of int, optional
        The bands to read, from 1. Default: all bands.
    masked : bool
        Yield masked arrays, as ``dataset.read(masked=True)`` returns them.
    max_workers : int, optional
        The most requests to servers, and reads of local files, that are under way together; about twice
        as many windows are held in memory. By default the memory decides, and each origin has at most
        as many connections as the settings allow (TERRASCOPE_MAX_CONNECTIONS, 16).
    progress : callable, optional
        Called with the number of windows done and the total, which is None if `requests` has no length.

    Yields
    ------
    array : ndarray, shape (bands, rows, cols)
        The pixels, in the order of the requests and always in the shape of the window. Pixels outside
        the raster have its nodata value, or 0 if it has none; in masked arrays they are masked.

    Raises
    ------
    ValueError
        If a request is not such a pair, a window is empty or not of whole pixels, or a band does not
        exist.
    AccessDeniedError
        If a URL is refused.
    rasterio.errors.RasterioIOError
        If a window cannot be read for another reason. The message begins with the URL. After any error
        the windows that have not been started are dropped.

    Examples
    --------
    >>> with terrascope_env():  # doctest: +SKIP
    ...     for pixels in read_windows((url, window) for window in windows):
    ...         ...
    """
    engine = Engine(max_workers)

    def request(given: Any) -> Request[npt.NDArray[Any]]:
        url, window = _check_request(given)
        return Request(
            url,
            lambda dataset: _part(dataset, window, check_indexes(indexes, dataset.count, url), masked),
            lambda part, dataset: _in_full_shape(part, dataset, window, masked),
        )

    def arrays() -> Iterator[npt.NDArray[Any]]:
        total = len(requests) if isinstance(requests, Sized) else None
        with engine:
            for done, array in enumerate(engine.run(map(request, requests)), start=1):
                if progress is not None:
                    progress(done, total)
                yield array

    return arrays()


def _part(dataset: Any, window: Window, bands: Sequence[int], masked: bool) -> Part:
    """Return the part of a window that lies in the raster. It may be empty."""
    top, left = max(0, window.row_off), max(0, window.col_off)
    bottom = min(dataset.height, window.row_off + window.height)
    right = min(dataset.width, window.col_off + window.width)
    return Part.of(Window(left, top, max(0, right - left), max(0, bottom - top)), bands, masks=masked)


def _in_full_shape(part: Part, dataset: Any, window: Window, masked: bool) -> npt.NDArray[Any]:
    """Read a part of a window in the window's full shape."""
    inside = part.window
    if part.shape == (window.height, window.width):
        return part.read(dataset, masked=masked)
    # boundless=True would read through a VRT of the whole file
    nodata = dataset.nodatavals[part.bands[0] - 1]
    dtype = np.result_type(*(dataset.dtypes[band - 1] for band in part.bands))
    array = np.full((len(part.bands), window.height, window.width), 0 if nodata is None else nodata, dtype)
    if masked:
        array = np.ma.masked_array(array, mask=True, fill_value=nodata)
    if inside.height > 0 and inside.width > 0:
        top, left = inside.row_off - window.row_off, inside.col_off - window.col_off
        array[:, top : top + inside.height, left : left + inside.width] = part.read(dataset, masked=masked)
    return array


def _check_request(request: Any) -> tuple[str, Window]:
    try:
        url, window = request
        parts = [window.col_off, window.row_off, window.width, window.height]
        url = fspath(url)
    except (TypeError, ValueError, AttributeError):
        raise ValueError(
            f"a request must be a pair of a URL and a rasterio Window; this is {request!r}."
        ) from None
    if any(part != int(part) for part in parts):
        raise ValueError(f"{window} of {url} has fractions of pixels; round its offsets and lengths first.")
    if window.width <= 0 or window.height <= 0:
        raise ValueError(f"{window} of {url} is empty.")
    return url, Window(*(int(part) for part in parts))
