"""Calls that only the main thread can make, because rasterio keeps a thread's options to that thread."""

import ctypes
import logging
import sys
import threading
from collections.abc import Callable

import rasterio.env

log = logging.getLogger(__name__)


def in_main_thread(function: Callable[[], None]) -> None:
    """Call a function in the main thread: now if this is it, else before it executes anything else."""
    if threading.current_thread() is threading.main_thread():
        function()
    else:
        _waiting.append(function)
        _ask()


_waiting: list[Callable[[], None]] = []


def _ask() -> None:
    ctypes.pythonapi.Py_AddPendingCall(_c_call, None)


def _call(_: int | None) -> int:
    if _is_inside_rasterio():  # it may be entering or leaving an Env: try again in a moment
        timer = threading.Timer(0.01, _ask)
        timer.daemon = True
        timer.start()
        return 0
    while _waiting:
        try:
            _waiting.pop(0)()
        except Exception:  # an exception here would be raised in the middle of the user's own code
            log.exception("unexpected trouble with GDAL's options of the main thread")
    return 0


_c_call = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_call)


def _is_inside_rasterio() -> bool:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__") == rasterio.env.__name__:
            return True
    return False
