"""Work done by a few threads at once, its results in order, however much of it there is."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import rasterio
import rasterio.env

# Each worker has a connection of its own. More of them go on being faster for a while, at the cost of
# everybody else whom the server serves.
MAX_WORKERS = 32

Progress = Callable[[int, int | None], object]
"""Called with how much is done, and of how much where that is known; in the thread that reads."""

T = TypeVar("T")
R = TypeVar("R")


class Workers:
    """A few threads; a context manager that waits for what they have begun, and drops what they have not.

    The GDAL options of the caller's `rasterio.Env` hold in them too.

    Parameters
    ----------
    count : int, optional
        How many threads at most; `MAX_WORKERS` where not given.

    Raises
    ------
    ValueError
        If it is less than 1.
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
        """Call a function with each item, and yield the results in the items' order.

        Twice as many items as threads are under way or waiting to be taken, never more: `items` may
        be endless, and whoever takes the results slowly slows the work down.
        """

        def work(item: T) -> R:
            # those of a main thread's Env hold in all threads, but vanish for moments
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
    """Return how many items there are, if that can be known without taking them."""
    try:
        return len(items)
    except TypeError:
        return None
