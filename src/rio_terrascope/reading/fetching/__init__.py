"""Fetching byte ranges of remote files, many at a time, over few connections.

A `Fetcher` takes ranges, and returns their bytes when they arrive. The rest of this folder:

- `source`: one file: its login, where it redirects to, its version
- `origin`: one server: threads, whose request is sent next, pauses; `throttle`: how many at a time
- `answers`: what an answer means, and whether its bytes count
- `transport`: requests over HTTP/1.1; `http2`: over HTTP/2, if `choice` finds the extra ``[http2]``
- `options`: which network options of GDAL count
"""

import contextlib
import copy
import functools
import itertools
import os
import queue
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rio_terrascope.reading.fetching import origin
from rio_terrascope.reading.fetching.answers import Failed, Got, Steps
from rio_terrascope.reading.fetching.origin import Request
from rio_terrascope.reading.fetching.source import Source
from rio_terrascope.registry import to_the_end
from rio_terrascope.secret import also_half_made

__all__ = ["Fetched", "Fetcher", "Source"]

_GAP = 1024  # bytes between two ranges, which cost less than a request
_FOREIGN = -1  # the number of other things
_MOST_UNREAD = 32 * 1024 * 1024  # bytes that have come and wait for `next`; then nothing more is sent
_JOINED = 512 * 1024  # bytes; the blocks of a longer one would be decoded late
# Seconds. Python sees Ctrl-C only between two waits if it comes just before one, and always on Windows.
_NAP = 0.1


@dataclass(frozen=True)
class Fetched:
    """What has come of one range.

    Attributes
    ----------
    source : Source
    offset, length : int
        As asked for.
    data : bytes or None
        None if it failed. Shorter than `length` only where the file ends.
    error : Exception or None
        Why it failed: AccessDeniedError, rasterio.errors.RasterioIOError and others, to be raised.
    """

    source: Source
    offset: int
    length: int
    data: bytes | None = field(repr=False)
    error: Exception | None


class Fetcher:
    """Fetches ranges of files. A context manager: leaving it stops all that is under way.

    It is used by one thread at a time. Fetchers in several threads share the connections to an origin.

    Parameters
    ----------
    at_once : int, optional
        The most requests under way for this fetcher. Default: as many as the origin may get.

    Raises
    ------
    ValueError
        If `at_once` is less than 1.
    """

    def __init__(self, *, at_once: int | None = None) -> None:
        if at_once is not None and at_once < 1:
            raise ValueError(f"at_once is {at_once}; at least 1 is needed.")
        self._at_once = at_once
        self.under_way = 0
        self.closed = False
        self._numbers = itertools.count()
        self._asked: dict[int, tuple[Source, int, int]] = {}  # and not returned yet
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._come: queue.SimpleQueue[tuple[int, Any, Exception | None]] = queue.SimpleQueue()
        self._bytes_come = self._bytes_taken = 0
        self._is_full = False

    @also_half_made
    def __repr__(self) -> str:
        return f"<Fetcher, {self.waiting} ranges waiting>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        self.close()

    def open(self, url: str) -> Source:
        """Return a file. This makes no request.

        Parameters
        ----------
        url : str
            ``http(s)://...``, or a path that begins with ``/vsicurl/``. The env that covers it now, and the
            options of GDAL that this thread sees now, are used for all its ranges.

        Raises
        ------
        rasterio.errors.RasterioIOError
            If it is not an ``http(s)://`` URL.
        """
        return Source(url)

    def ask(self, source: Source, ranges: Iterable[tuple[int, int]]) -> None:
        """Ask for ranges of a file. This returns at once.

        Neighbouring ranges share a request. For a new file, ask for the first bytes alone; the answer
        tells its size.

        Parameters
        ----------
        source : Source
        ranges : iterable of (int, int)
            Offset and length of each, in bytes.
        """
        self.renew_after_fork()
        numbered = [(next(self._numbers), offset, length) for offset, length in ranges]
        for number, offset, length in numbered:
            self._asked[number] = (source, offset, length)
        self._send(source, numbered)

    def _send(self, source: Source, numbered: list[tuple[int, int, int]]) -> None:
        requests = []
        for number, _, length in numbered:
            if length == 0:
                self._come.put((number, b"", None))
        for parts in _joined([part for part in numbered if part[2] > 0]):
            first = parts[0][1]
            length = max(offset + length for _, offset, length in parts) - first
            requests.append(Request(self, Steps(source, first, length), parts))
        if requests:
            origin.clerk.call(functools.partial(_add, self, requests))

    def connect(self, source: Source, count: int) -> None:
        """Open up to `count` connections to the origin of a file, for ranges that will be asked for."""
        self.renew_after_fork()
        origin.clerk.call(functools.partial(_connect, self, source, count))

    def put(self, thing: object) -> None:
        """Let `next` return a thing of the caller's in its turn. Any thread may call this."""
        self._come.put((_FOREIGN, thing, None))

    def next(self, timeout: float | None = None) -> Any:
        """Return the next `Fetched` that has come or failed, in any order, or what was `put`.

        Parameters
        ----------
        timeout : float, optional
            Seconds.

        Raises
        ------
        TimeoutError
            If none has come in time.
        """
        self.renew_after_fork()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            nap = _NAP if deadline is None else max(0.0, min(_NAP, deadline - time.monotonic()))
            try:
                number, data, error = self._come.get(timeout=nap)
                break
            except queue.Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError("no range has come in time") from None
        if number == _FOREIGN:
            return data
        source, offset, length = self._asked.pop(number)
        if data is not None:
            self._bytes_taken += len(data)
        if self._is_full and self._unread < _MOST_UNREAD:
            self._is_full = False
            origin.clerk.call(functools.partial(origin.go_on, self))
        # a copy for each range, so that they do not collect each other's tracebacks
        return Fetched(source, offset, length, None if data is None else bytes(data), copy.copy(error))

    @property
    def waiting(self) -> int:
        """How many ranges were asked for and not returned yet."""
        return len(self._asked)

    def close(self) -> None:
        """Stop all that is under way, and send nothing more. May be called again."""
        to_the_end(self._close)

    def _close(self) -> None:
        self.closed = True
        self._asked.clear()
        with contextlib.suppress(RuntimeError):  # Python is ending, and nothing is under way
            origin.clerk.call(functools.partial(origin.drop, self))

    @property
    def _unread(self) -> int:
        return self._bytes_come - self._bytes_taken

    def takes_more(self) -> bool:
        """Tell whether another request may be sent for it now. Called in other threads."""
        if self.closed or (self._at_once is not None and self.under_way >= self._at_once):
            return False
        # In this order: `next` lowers the one, then looks at the other. So one of the two notices.
        self._is_full = True
        if self._unread < _MOST_UNREAD:
            self._is_full = False
        return not self._is_full

    def deliver(self, request: Request, outcome: Got | Failed) -> None:
        """Take what has come of a request. Called in other threads."""
        if self.closed:
            return
        for number, offset, length in request.parts:
            if isinstance(outcome, Got):
                start = offset - request.steps.offset
                data = outcome.data[start : start + length]
                self._bytes_come += len(data)
                self._come.put((number, data, None))
            else:
                self._come.put((number, None, outcome.error))

    def renew_after_fork(self) -> None:
        """Ask again in a forked child: no thread of the parent's brings anything here."""
        if self._process == os.getpid():
            return
        self._start()
        self.under_way = 0
        by_source: dict[int, tuple[Source, list[tuple[int, int, int]]]] = {}
        for number, (source, offset, length) in self._asked.items():
            by_source.setdefault(id(source), (source, []))[1].append((number, offset, length))
        for source, numbered in by_source.values():
            self._send(source, numbered)


def _add(fetcher: Fetcher, requests: list[Request]) -> None:
    if fetcher.closed:
        return
    where = {}
    for request in requests:
        there = origin.origin_for(request.steps.url)
        there.add(request)
        where[id(there)] = there
    for there in where.values():
        there.dispatch()


def _connect(fetcher: Fetcher, source: Source, count: int) -> None:
    if not fetcher.closed:
        steps = Steps(source, 0, 1)
        origin.origin_for(steps.url).open_connections(fetcher, steps, count)


def _joined(parts: list[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    """Put neighbouring ranges together, in the order in which the first of each was asked for."""
    groups: list[list[tuple[int, int, int]]] = []
    end = 0
    for part in sorted(parts, key=lambda part: part[1]):
        _, offset, length = part
        if groups and offset - end <= _GAP and max(end, offset + length) - groups[-1][0][1] <= _JOINED:
            groups[-1].append(part)
            end = max(end, offset + length)
        else:
            groups.append([part])
            end = offset + length
    return sorted(groups, key=lambda group: min(number for number, _, _ in group))
