"""A rasterio.Env that may be left in another thread than the one that entered it."""

import contextlib
import ctypes
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import rasterio
from rasterio.errors import EnvError

from rio_terrascope.errors import TerrascopeError

log = logging.getLogger(__name__)


class PlainEnv:
    """A `rasterio.Env`, entered now. Its options belong to this thread, and can be removed only here.

    Parameters
    ----------
    **options
        As for `rasterio.Env`.
    """

    def __init__(self, **options: Any) -> None:
        self._env = rasterio.Env(**options)
        self._env.__enter__()
        self._thread = threading.current_thread()

    @property
    def is_of_this_thread(self) -> bool:
        """Whether the thread that asks has entered it."""
        return self._thread is threading.current_thread()

    def leave(self) -> None:
        """Remove the options, in the thread that has them. If it is the main thread, it does that next.

        Raises
        ------
        TerrascopeError
            If another thread has them and is running: nobody else can remove them.
        """
        if self.is_of_this_thread:
            self._leave()
        elif self._thread is threading.main_thread():
            _for_main_thread.append(self._leave)
            _ask_main_thread()
        elif self._thread.is_alive():
            raise TerrascopeError(
                f"the env was left in thread {threading.current_thread().name}, but thread "
                f"{self._thread.name} entered it, and keeps its GDAL options until it ends",
                next_step="leave the env in the thread that entered it",
            )

    def _leave(self) -> None:
        # an Env that was entered earlier may have been left first, and removed GDAL's options
        with contextlib.suppress(EnvError):
            self._env.__exit__(None, None, None)


_for_main_thread: list[Callable[[], None]] = []


def _ask_main_thread() -> None:
    """Let the main thread call what is in the list, before it executes anything else."""
    ctypes.pythonapi.Py_AddPendingCall(_c_call, None)


def _call(_: int | None) -> int:
    if _is_inside_rasterio():  # it may be entering or leaving an Env: try again in a moment
        timer = threading.Timer(0.01, _ask_main_thread)
        timer.daemon = True
        timer.start()
        return 0
    while _for_main_thread:
        try:
            _for_main_thread.pop()()
        except Exception:  # an exception here would be raised in the middle of the user's own code
            log.exception("the options of an env that was left in another thread were not removed")
    return 0


_c_call = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_call)


def _is_inside_rasterio() -> bool:
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__") == rasterio.env.__name__:
            return True
    return False
