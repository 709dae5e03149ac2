"""Threads that work through any number of items, and yield the results in order."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import rasterio
import rasterio.env

# Each worker has its own connection. More workers would be faster still, at the expense of the server's
# other users.
MAX_WORKERS = 32

Progress = Callable[[int, int | None], object]
"""Called in the reading thread with the amount done and the total, which is None if it is unknown."""

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """A pool of threads, which use the GDAL options of the caller's `rasterio.Env`.

    Leaving the context manager waits for the items that have been started, and drops the others.

    Parameters
    ----------
    count : int, optional
        The most threads. Default: `MAX_WORKERS`.

    Raises
    ------
    ValueError
        If `count` is less than 1.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = MAX_WORKERS if count is None else count
        if self.count < 1:
            raise ValueError(f"max_workers is {count}; at least 1 is needed.")

    def __enter__(self) -> Self:
        self._options = rasterio.env.getenv() if rasterio.env.hasenv() else {}
        self._executor = ThreadPoolExecutor(self.count, thread_name_prefix="rio-terrascope-read")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def in_order(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Call a function with each item, and yield the results in the order of the items.

        At most twice as many items as there are threads are in work or waiting to be taken. `items` may
        therefore be endless, and a caller that takes results slowly slows the work down.
        """

        def work(item: T) -> R:
            # the options of the main thread's Env hold in all threads, but vanish for moments
            with rasterio.Env():
                rasterio.env.setenv(**self._options)
                return function(item)

        pending: collections.deque[Future[R]] = collections.deque()
        for item in items:
            pending.append(self._executor.submit(work, item))
            if len(pending) >= 2 * self.count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def total_of(items: Any) -> int | None:
    """Return the number of items, or None if it cannot be known without taking them."""
    try:
        return len(items)
    except TypeError:
        return None
