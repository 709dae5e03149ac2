"""Open datasets, lent to one thread at a time, and the errors of reading them."""

import contextlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Self, TypeVar

import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope.env import active_env
from rio_terrascope.gdal import cache, libgdal
from rio_terrascope.gdal.opening import open_whole
from rio_terrascope.gdal.options import LAZY_OFFSETS

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

        The dataset learns where its blocks are as they are read; `read` ends with `located.check_located`.

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
                return self._read(url, open_late(url), read, window, keep)

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
        return open_late(url)

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
    return open_whole(url, **kwargs) if is_http(url) else rasterio.open(url, **kwargs)


def open_late(url: str) -> Any:
    """Open a dataset without reading where all of its blocks are, which may take two requests."""
    if not is_http(url) or libgdal.why_not_scoped() is not None:
        return open_dataset(url)
    with libgdal.for_this_thread(LAZY_OFFSETS, "YES"):
        dataset = open_dataset(url)
    if any(flags == [MaskFlags.per_dataset] for flags in dataset.mask_flag_enums):
        # a mask of its own has blocks that cannot be asked for
        dataset.close()
        dataset = open_early(url)
    return dataset


def open_early(url: str) -> Any:
    """Open a dataset, and read where all of its blocks are."""
    with libgdal.for_this_thread(LAZY_OFFSETS, "NO"):
        return open_dataset(url)


@contextlib.contextmanager
def naming(url: str) -> Iterator[None]:
    """Put the URL into rasterio's own errors, which seldom name it."""
    try:
        yield
    except RasterioIOError as error:
        raise RasterioIOError(f"{url}: {error}") from error


def _forget(url: str) -> None:
    if is_http(url) and libgdal.why_not_scoped() is None:
        cache.forget(url)


def is_http(url: str) -> bool:
    """Tell whether GDAL reads it over HTTP."""
    return url.startswith(("http://", "https://", "/vsicurl/"))
