"""Clearing GDAL's cache of files on the network."""

import contextlib
import os
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


def prepare_fork() -> None:
    """Close this thread's connections, so that a forked child cannot go on using the parent's.

    The parent does it: in a child, GDAL's lock of its cache may be held by a thread that does not exist
    there, and the call would never return.
    """
    forget_all()


def _before_fork() -> None:
    _call.acquire()


def _after_fork_in_parent() -> None:
    _call.release()


def _after_fork_in_child() -> None:
    global _call
    _call = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
