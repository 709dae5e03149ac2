"""`read_windows`: read many windows of many files."""

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from rio_terrascope.reading.bbox import check_indexes
from rio_terrascope.reading.block_offsets import check_block_offsets
from rio_terrascope.reading.datasets import Datasets
from rio_terrascope.reading.workers import Progress, Workers, total_of


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
        How many windows are read at once, each over its own connection; 32 by default. About twice as
        many are held in memory.
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
    workers = Workers(max_workers)
    datasets = Datasets(keep=2 * workers.count)

    def read(request: tuple[str, Window]) -> npt.NDArray[Any]:
        url, window = request
        return datasets.read(
            url,
            lambda dataset: read_whole(dataset, window, indexes, url, masked=masked),
            window=window,
        )

    def arrays() -> Iterator[npt.NDArray[Any]]:
        total = total_of(requests)
        # leaving the workers waits for them, so no dataset is closed while it is read
        with datasets, workers:
            results = workers.in_order(read, map(_check_request, requests))
            for done, array in enumerate(results, start=1):
                if progress is not None:
                    progress(done, total)
                yield array

    return arrays()


def read_whole(
    dataset: Any, window: Window, indexes: int | Sequence[int] | None, url: str, *, masked: bool
) -> npt.NDArray[Any]:
    """Read a window in its full shape, even if it extends beyond the raster."""
    bands = check_indexes(indexes, dataset.count, url)
    top, left = max(0, window.row_off), max(0, window.col_off)
    bottom = min(dataset.height, window.row_off + window.height)
    right = min(dataset.width, window.col_off + window.width)
    inside = Window(left, top, max(0, right - left), max(0, bottom - top))
    if (inside.height, inside.width) == (window.height, window.width):
        array: npt.NDArray[Any] = dataset.read(bands, window=window, masked=masked)
        check_block_offsets(dataset, window)
        return array
    # boundless=True would read through a VRT of the whole file
    shape = (len(bands), window.height, window.width)
    nodata = dataset.nodatavals[bands[0] - 1]
    dtype = np.result_type(*(dataset.dtypes[band - 1] for band in bands))
    array = np.full(shape, 0 if nodata is None else nodata, dtype)
    if masked:
        array = np.ma.masked_array(array, mask=True, fill_value=nodata)
    if inside.height > 0 and inside.width > 0:
        rows = slice(top - window.row_off, bottom - window.row_off)
        columns = slice(left - window.col_off, right - window.col_off)
        array[:, rows, columns] = dataset.read(bands, window=inside, masked=masked)
        check_block_offsets(dataset, inside)
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
