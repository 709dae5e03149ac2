"""What GDAL has cached of files on the network, and forgetting it."""

import contextlib
import os
import threading
from collections.abc import Iterator

from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.options import vsi_path

_memory = threading.Lock()  # held while something is forgotten, or must not be
_times_forgotten = 0


def forget(path: str) -> None:
    """Drop what GDAL has cached of all files whose ``/vsicurl/...`` path begins with `path`.

    Bytes, sizes, and that an open has failed: without this a 401 is answered again from memory.
    """
    if libgdal.why_not_scoped() is None:
        with _memory:
            _count_forgetting()
            libgdal.load().VSICurlPartialClearCache(vsi_path(path).encode())
    else:
        with contextlib.suppress(ImportError):  # rasterio has it from 1.5 on
            from rasterio.cache import invalidate

            invalidate(path)


def forget_all() -> None:
    """Drop everything that GDAL has cached of HTTP, its open connections included."""
    _count_forgetting()
    libgdal.load().VSICurlClearCache()


def _count_forgetting() -> None:
    global _times_forgotten
    _times_forgotten += 1


def times_forgotten() -> int:
    """Return how often `forget` has been called."""
    return _times_forgotten


@contextlib.contextmanager
def nothing_forgotten() -> Iterator[int]:
    """Let no thread call `forget` inside the block, and give how often that was done before."""
    with _memory:
        yield _times_forgotten


def _after_fork_in_child() -> None:
    global _memory
    _memory = threading.Lock()  # a thread of the parent, which did not come along, may have held it


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
