"""Clearing GDAL's cache of files on the network."""

import contextlib
import os
import threading
from collections.abc import Iterator

from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.options import vsi_path

_memory = threading.Lock()  # held while the cache is cleared, or must not be cleared
_times_forgotten = 0


def forget(path: str) -> None:
    """Clear GDAL's cache for all files whose URL or ``/vsicurl/...`` path begins with `path`.

    The cache holds bytes, sizes, and failures: GDAL answers a second open with the remembered 401.
    """
    if libgdal.why_not_scoped() is None:
        with _memory:
            _count_forgetting()
            libgdal.load().VSICurlPartialClearCache(vsi_path(path).encode())
    else:
        with contextlib.suppress(ImportError):  # rasterio 1.5 and later
            from rasterio.cache import invalidate

            invalidate(path)


def forget_all() -> None:
    """Clear all of GDAL's cache of files on the network, and close its connections."""
    _count_forgetting()
    libgdal.load().VSICurlClearCache()


def _count_forgetting() -> None:
    global _times_forgotten
    _times_forgotten += 1


def times_forgotten() -> int:
    """Return how often the cache has been cleared."""
    return _times_forgotten


@contextlib.contextmanager
def nothing_forgotten() -> Iterator[int]:
    """Let no thread clear the cache inside the block. Yields how often it was cleared before."""
    with _memory:
        yield _times_forgotten


def _after_fork_in_child() -> None:
    global _memory
    _memory = threading.Lock()  # a thread of the parent may have held it, and threads do not survive a fork


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
