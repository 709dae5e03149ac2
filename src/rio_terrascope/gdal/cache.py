"""Clearing GDAL's cache of files on the network."""

import contextlib
import threading
from collections.abc import Callable

from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.options import vsi_path

# held over a call of libgdal that clears the cache, and over a fork; never over a request
_call = threading.Lock()
_listeners: list[Callable[[str], None]] = []


def forget(path: str) -> None:
    """Clear GDAL's cache for all files whose URL or ``/vsicurl/...`` path begins with `path`.

    The cache holds bytes, sizes, and failures: GDAL answers a second open with the remembered 401.
    """
    if libgdal.why_not_scoped() is None:
        with _call:
            libgdal.load().VSICurlPartialClearCache(vsi_path(path).encode())
    else:
        with contextlib.suppress(ImportError):  # rasterio 1.5 and later
            from rasterio.cache import invalidate

            invalidate(path)
    for listener in _listeners:
        listener(path)


def on_forget(listener: Callable[[str], None]) -> None:
    """Call `listener` with the argument of each `forget`, so that another memory ends with GDAL's."""
    _listeners.append(listener)


def forget_all() -> None:
    """Clear all of GDAL's cache of files on the network, and close its connections."""
    libgdal.load().VSICurlClearCache()


def before_fork() -> None:
    """Close this thread's connections, and let nobody clear the cache.

    A forked child would go on using the connections. It cannot close them itself, since another thread of
    the parent may hold the lock for it.
    """
    _call.acquire()
    forget_all()


def after_fork_in_parent() -> None:
    """Let other threads clear the cache again."""
    _call.release()


def after_fork_in_child() -> None:
    """Replace the lock that a thread of the parent may have held: threads do not survive a fork."""
    global _call
    _call = threading.Lock()
