"""Rasters that GDAL opens itself: local files, VRTs, and what lies behind other protocols."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from rasterio.errors import RasterioIOError

from rio_terrascope.env import active_env
from rio_terrascope.gdal.opening import open_whole

_MOST_IDLE = 32  # open datasets that no thread uses
_MOST_READS = 16  # GDAL keeps decoded blocks as long as a dataset is open


class Datasets:
    """Open datasets, each lent to one thread at a time, as GDAL demands."""

    def __init__(self) -> None:
        self._idle: list[tuple[str, int, Any]] = []  # with the number of reads, the latest last
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def lend(self, url: str) -> Iterator[Any]:
        """Lend an open dataset. One that fails is closed, and one that has been read often."""
        reads, dataset = self._find(url) or (0, open_dataset(url))
        try:
            yield dataset
        except BaseException:
            dataset.close()
            raise
        surplus = dataset
        if reads < _MOST_READS:
            with self._lock:
                self._idle.append((url, reads + 1, dataset))
                surplus = self._idle.pop(0)[2] if len(self._idle) > _MOST_IDLE else None
        if surplus is not None:
            surplus.close()

    def _find(self, url: str) -> tuple[int, Any] | None:
        with self._lock:
            for number, (name, reads, dataset) in enumerate(self._idle):
                if name == url:
                    del self._idle[number]
                    return reads, dataset
        return None

    def close(self) -> None:
        """Close those that nobody uses."""
        for _, _, dataset in self._idle:
            dataset.close()


def open_dataset(url: str, **kwargs: Any) -> Any:
    """Open a dataset. If an env covers the URL, recover as `TerrascopeEnv.open` does."""
    env = active_env(url)
    if env is not None:
        return env.open(url, **kwargs)
    return open_whole(url, **kwargs)


@contextlib.contextmanager
def naming(url: str) -> Iterator[None]:
    """Add the URL to rasterio's errors, which seldom name it."""
    try:
        yield
    except RasterioIOError as error:
        if url in str(error):
            raise
        raise RasterioIOError(f"{url}: {error}") from error
