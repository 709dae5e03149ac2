"""A rasterio.Env that may be left in another thread than the one that entered it."""

import contextlib
import threading
from typing import Any

import rasterio
from rasterio.errors import EnvError

from rio_terrascope.errors import TerrascopeError
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.main_thread import in_main_thread


class PlainEnv:
    """A `rasterio.Env`, entered now. Its options belong to this thread, and can be removed only here.

    Parameters
    ----------
    **options
        As for `rasterio.Env`.
    """

    def __init__(self, **options: Any) -> None:
        self._thread = threading.current_thread()
        self._before: dict[str, str | None] = {}
        if self._thread is not threading.main_thread() and libgdal.why_not_scoped() is None:
            self._before = libgdal.set_in_this_thread(options)
        self._env = rasterio.Env(**options)
        self._env.__enter__()

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
            in_main_thread(self._leave)
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
        # rasterio leaves the main thread's values behind in another thread, as that one's own: also a token
        libgdal.set_for_this_thread(self._before)
