"""Open datasets, lent to one thread at a time, and the errors of reading them."""

import contextlib
import functools
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Self, TypeVar

import rasterio
from rasterio.enums import Interleaving, MaskFlags
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope import gdal
from rio_terrascope.env import active_env
from rio_terrascope.opening import open_whole

# An open dataset keeps the blocks that were read of it, up to 5 % of the machine's memory in all of them.
# Each block is read once here, so a dataset is closed after so many pixels. To open it again makes no
# request: GDAL has the header.
PIXELS_KEPT = 8 * 1024 * 1024

T = TypeVar("T")


class Datasets:
    """A pool of open datasets; a context manager that closes them all.

    A GDAL dataset must not be used by two threads at once, so each thread that reads a URL gets one of
    its own. That costs nothing: GDAL keeps a file's header for the process, and only the first open
    makes requests. The others wait for it.

    Parameters
    ----------
    keep : int
        How many datasets that nobody uses are kept open, the latest used ones.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._idle: OrderedDict[Any, str] = OrderedDict()  # dataset: URL, the latest used last
        self._pixels: Counter[Any] = Counter()  # read of each idle dataset
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        for dataset in self._idle:
            dataset.close()

    def read(
        self,
        url: str | PathLike[str],
        read: Callable[[Any], T],
        *,
        window: Window | None = None,
        keep: bool = True,
    ) -> T:
        """Call `read`, which reads a window, with an open dataset that is the caller's alone.

        The dataset learns where its blocks are as they are read: `read` calls `check_located` at its end.

        Where that fails, the file is opened anew, by `TerrascopeEnv.open` where an env covers it, which
        renews a login that has lapsed; then `read` is called once more.

        `keep` is False where the next read of the same dataset could go on where this one stops in the
        file: GDAL would take that for sequential reading, and fetch more and more beyond.

        Raises
        ------
        AccessDeniedError
            If the URL is refused, now or when it was opened.
        rasterio.errors.RasterioIOError
            For any other trouble; its message begins with the URL.
        """
        url = fspath(url)
        with naming(url):
            try:
                return self._read(url, self._borrow(url), read, window, keep)
            except _ReadFailed:
                # GDAL tells the status of an open that fails, but not that of a read
                _forget(url)
                return self._read(url, _open_late(url), read, window, keep)

    def _read(self, url: str, dataset: Any, read: Callable[[Any], T], window: Window | None, keep: bool) -> T:
        try:
            result = read(dataset)
        except RasterioIOError as error:
            dataset.close()
            raise _ReadFailed(str(error)) from error
        except BaseException:
            dataset.close()
            raise
        if keep:
            self._give_back(url, dataset, _pixels_in_blocks(dataset, window))
        else:
            dataset.close()
        return result

    def _borrow(self, url: str) -> Any:
        with self._lock:
            for dataset in reversed(self._idle):
                if self._idle[dataset] == url:
                    del self._idle[dataset]
                    return dataset
        return _open_late(url)

    def _give_back(self, url: str, dataset: Any, pixels: int) -> None:
        surplus = None
        with self._lock:
            self._pixels[dataset] += pixels
            if self._pixels[dataset] >= PIXELS_KEPT:
                surplus = dataset
            else:
                self._idle[dataset] = url
                if len(self._idle) > self._keep:
                    surplus, _ = self._idle.popitem(last=False)
            if surplus is not None:
                del self._pixels[surplus]
        if surplus is not None:
            surplus.close()


def _pixels_in_blocks(dataset: Any, window: Window | None) -> int:
    """Count the pixels that GDAL decodes for a window: those of whole blocks."""
    if window is None:
        return 0
    height, width = dataset.block_shapes[0]
    down = (window.row_off + window.height - 1) // height - window.row_off // height + 1
    across = (window.col_off + window.width - 1) // width - window.col_off // width + 1
    return int(down * height * across * width * dataset.count)


class _ReadFailed(RasterioIOError):
    """A dataset was open already when the trouble began."""


def open_dataset(url: str, **kwargs: Any) -> Any:
    """Open a dataset, with the recovery of `TerrascopeEnv.open` where an env covers the URL."""
    env = active_env(url)
    if env is not None:
        return env.open(url, **kwargs)
    return open_whole(url, **kwargs) if _is_http(url) else rasterio.open(url, **kwargs)


def _open_late(url: str) -> Any:
    """Open a dataset without reading where all of its blocks are, which may take two requests."""
    if not _is_http(url) or gdal.why_not_scoped() is not None:
        return open_dataset(url)
    with gdal.for_this_thread(gdal.LATE, "YES"):
        dataset = open_dataset(url)
    if any(flags == [MaskFlags.per_dataset] for flags in dataset.mask_flag_enums):
        # a mask of its own has blocks that cannot be asked for
        dataset.close()
        dataset = _open_early(url)
    return dataset


def _open_early(url: str) -> Any:
    with gdal.for_this_thread(gdal.LATE, "NO"):
        return open_dataset(url)


def check_located(dataset: Any, window: Window, shape: tuple[int, int] | None = None) -> None:
    """See that GDAL knew where the blocks are that it has just read for a window.

    libtiff reads the places of a few hundred blocks at a time. Where that fails, and the window reaches
    over several blocks, GDAL goes on, and then takes those blocks for empty: zeros, and no error, now and
    for as long as the dataset is open. (GTiffDataset::CacheMultiRange asks first, and heeds no error;
    libtiff's _TIFFPartialReadStripArray has noted 0 for the place then.)

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
    if dataset.driver != "GTiff" or not _is_http(dataset.name) or gdal.why_not_scoped() is not None:
        return
    level, blocks = _blocks(dataset, window, shape or (window.height, window.width))
    unknown = _without_place(dataset, level, blocks)
    if unknown:
        with _open_early(dataset.name) as whole:
            if _without_place(whole, level, unknown) != unknown:
                raise RasterioIOError("GDAL could not read where its blocks are. Next: open it anew.")


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
    with gdal.for_this_thread(gdal.LATE, "YES"), open_dataset(url, OVERVIEW_LEVEL=level) as overview:
        shape: tuple[int, int] = overview.block_shapes[0]
        return shape


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


@contextlib.contextmanager
def naming(url: str) -> Iterator[None]:
    """Put the URL into rasterio's own errors, which seldom name it."""
    try:
        yield
    except RasterioIOError as error:
        raise RasterioIOError(f"{url}: {error}") from error


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an error of opening a URL tells of."""
    # to the letter: GDAL's text may hold the URL too, and a port may be 40412
    status = re.search(r"response code: (\d+)", str(error))
    return int(status[1]) if status else None


def _forget(url: str) -> None:
    if _is_http(url) and gdal.why_not_scoped() is None:
        gdal.forget(url)


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://", "/vsicurl/"))
