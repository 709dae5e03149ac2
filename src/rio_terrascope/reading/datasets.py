"""Open datasets, lent to one thread at a time, and the errors of reading them."""

import contextlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Self, TypeVar

from rasterio.enums import MaskFlags
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope.env import active_env
from rio_terrascope.gdal import cache, libgdal
from rio_terrascope.gdal.opening import is_http, open_whole
from rio_terrascope.gdal.options import LAZY_OFFSETS

# GDAL keeps the decoded blocks of open datasets, up to 5 % of the machine's memory. Here each block is
# read once, so a dataset is closed after this many pixels. Opening it again makes no request, since
# GDAL has cached the header.
PIXELS_KEPT = 8 * 1024 * 1024

T = TypeVar("T")


class Datasets:
    """A pool of open datasets; a context manager that closes them all.

    Two threads must not use a GDAL dataset at the same time, so each thread that reads a URL gets its
    own. That costs no requests: GDAL caches a file's header for the process, so only the first open
    makes requests, and the others wait for it.

    Parameters
    ----------
    keep : int
        How many unused datasets stay open, the most recently used ones.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._idle: OrderedDict[Any, str] = OrderedDict()  # dataset: URL, the most recently used last
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
        """Call `read`, which reads a window, with an open dataset that no other thread uses.

        GDAL loads the block offsets as it reads, so `read` must end with `check_block_offsets`.

        If `read` fails, open the file again and call `read` once more. If an env covers the URL,
        `TerrascopeEnv.open` opens it, and renews a login that has lapsed.

        `keep` is False if the next read of the same dataset may continue in the file where this one
        stops. GDAL would take that for sequential reading, and fetch more and more in advance.

        Raises
        ------
        AccessDeniedError
            If the URL is refused.
        rasterio.errors.RasterioIOError
            For any other trouble; its message begins with the URL.
        """
        url = fspath(url)
        with naming(url):
            try:
                return self._read(url, self._borrow(url), read, window, keep)
            except _ReadFailed:
                # GDAL reports the HTTP status of a failed open, but not of a failed read
                _forget(url)
                return self._read(url, open_lazily(url), read, window, keep)

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
        return open_lazily(url)

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
    """An open dataset could not be read."""


def open_dataset(url: str, **kwargs: Any) -> Any:
    """Open a dataset. If an env covers the URL, recover as `TerrascopeEnv.open` does."""
    env = active_env(url)
    if env is not None:
        return env.open(url, **kwargs)
    return open_whole(url, **kwargs)


def open_lazily(url: str) -> Any:
    """Open a dataset without its block offsets, which may take two more requests."""
    if not is_http(url) or libgdal.why_not_scoped() is not None:
        return open_dataset(url)
    with libgdal.for_this_thread(LAZY_OFFSETS, "YES"):
        dataset = open_dataset(url)
    if any(flags == [MaskFlags.per_dataset] for flags in dataset.mask_flag_enums):
        # the block offsets of a mask band cannot be checked
        dataset.close()
        dataset = open_with_offsets(url)
    return dataset


def open_with_offsets(url: str) -> Any:
    """Open a dataset, and load all of its block offsets."""
    with libgdal.for_this_thread(LAZY_OFFSETS, "NO"):
        return open_dataset(url)


@contextlib.contextmanager
def naming(url: str) -> Iterator[None]:
    """Add the URL to rasterio's errors, which seldom name it."""
    try:
        yield
    except RasterioIOError as error:
        raise RasterioIOError(f"{url}: {error}") from error


def _forget(url: str) -> None:
    if is_http(url) and libgdal.why_not_scoped() is None:
        cache.forget(url)
