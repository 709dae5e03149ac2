"""`read_windows`: many windows of many files."""

from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window

from rio_terrascope.reading.bbox import check_indexes
from rio_terrascope.reading.block_offsets import check_located
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
        Rasters, and windows of whole pixels in them. May be endless: it is read as the arrays are taken.
    indexes : int or sequence of int, optional
        Bands, from 1; all where not given.
    masked : bool
        Yield masked arrays, no data masked.
    max_workers : int, optional
        Windows read at once, each over a connection of its own; 32 where not given. About twice as
        many are in memory.
    progress : callable, optional
        Called with the number of windows done, and of all (None where `requests` has no length).

    Yields
    ------
    array : ndarray, shape (bands, rows, cols)
        In the order of the requests, with the shape of the window always. What lies outside of the
        raster has its nodata value, 0 where there is none, and is masked.

    Raises
    ------
    ValueError
        If a request is no such pair, its window is empty or has fractions, or a band is not there.
    AccessDeniedError
        If a URL is refused.
    rasterio.errors.RasterioIOError
        If one cannot be read for another reason; the message begins with the URL. Whatever is raised,
        the windows that have not begun are dropped.

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
        # the workers are left, and so at rest, before the datasets are closed
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
    """Read a window in its full shape, also where it reaches over the raster's edges."""
    bands = check_indexes(indexes, dataset.count, url)
    top, left = max(0, window.row_off), max(0, window.col_off)
    bottom = min(dataset.height, window.row_off + window.height)
    right = min(dataset.width, window.col_off + window.width)
    inside = Window(left, top, max(0, right - left), max(0, bottom - top))
    if (inside.height, inside.width) == (window.height, window.width):
        array: npt.NDArray[Any] = dataset.read(bands, window=window, masked=masked)
        check_located(dataset, window)
        return array
    # rasterio's boundless=True goes through a warped VRT of the whole file; this does not
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
        check_located(dataset, inside)
    return array


def _check_request(request: Any) -> tuple[str, Window]:
    try:
        url, window = request
        parts = [window.col_off, window.row_off, window.width, window.height]
        url = fspath(url)
    except (TypeError, ValueError, AttributeError):
        raise ValueError(
            f"a request is a pair of a URL and a rasterio Window; this is {request!r}."
        ) from None
    if any(part != int(part) for part in parts):
        raise ValueError(f"{window} of {url} has fractions of pixels; round it first.")
    if window.width <= 0 or window.height <= 0:
        raise ValueError(f"{window} of {url} is empty.")
    return url, Window(*(int(part) for part in parts))
