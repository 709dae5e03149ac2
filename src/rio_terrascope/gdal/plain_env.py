"""A rasterio.Env that can be left in another thread than the one that entered it, and interrupted."""

import os
import threading
from typing import Any

import rasterio
import rasterio.env

from rio_terrascope.errors import TerrascopeError
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.main_thread import in_main_thread


class PlainEnv:
    """A `rasterio.Env` for one entry. Its options belong to this thread, and can be removed only here.

    Ctrl-C may come between any two steps of entering and leaving.

    Parameters
    ----------
    options : dict
        For `rasterio.Env`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._thread = threading.current_thread()
        self._env = rasterio.Env(**options)
        self._outer: dict[str, Any] | None = None  # the options of the enclosing Env
        self._before: dict[str, str | None] = {}  # the thread's own values of these options
        self._not_set: list[str] = []  # options that only the environment has set, for the main thread
        self._state = "new"

    def enter(self) -> None:
        """Set the options in this thread."""
        self._outer = rasterio.env.getenv() if rasterio.env.hasenv() else None
        if libgdal.why_not_scoped() is None:
            if self._thread is threading.main_thread():
                self._not_set = [key for key in self._options if libgdal.get_process_option(key) is None]
            else:
                self._before = libgdal.own_options_of_this_thread(self._options)
        self._state = "entering"
        self._env.__enter__()
        self._state = "entered"

    @property
    def is_of_this_thread(self) -> bool:
        """Whether the thread that asks has entered it."""
        return self._thread is threading.current_thread()

    def leave(self) -> None:
        """Remove the options, in the thread that has them. If it is the main thread, it does that next.

        May be called again, until one call succeeds.

        Raises
        ------
        TerrascopeError
            If another thread has them and is running: nobody else can remove them.
        """
        if self.is_of_this_thread:
            self._leave()
        elif self._thread is threading.main_thread():
            in_main_thread(self._leave)
        elif self._thread.is_alive():
            raise TerrascopeError(
                f"the env was left in thread {threading.current_thread().name}, but thread "
                f"{self._thread.name} entered it, and keeps its GDAL options until it ends",
                next_step="leave the env in the thread that entered it",
            )

    def _leave(self) -> None:
        if self._state == "new":
            return
        # without an Env here, one that was entered earlier has been left first, and removed GDAL's options
        if self._state == "leaving" or rasterio.env.hasenv():
            if self._state != "entered":  # rasterio may have set an option, and not noted it
                libgdal.remove_rasterios(self._options)
            self._state = "leaving"
            if self._outer is None:
                if not rasterio.env.hasenv():
                    rasterio.env.defenv()  # an interrupted call may have removed it, and rasterio wants one
                self._env.__exit__()
            else:
                if rasterio.env.hasenv():
                    rasterio.env.delenv()
                rasterio.env.defenv()
                rasterio.env.setenv(**self._outer)
        # rasterio leaves the main thread's values behind in another thread, as that one's own: also a token
        libgdal.set_for_this_thread(self._before)
        # and it sets for the process what the environment had: a later change of that would not count
        for key in self._not_set:
            if libgdal.get_process_option(key) == os.environ.get(key):
                libgdal.load().CPLSetConfigOption(key.encode(), None)
        self._state = "new"
