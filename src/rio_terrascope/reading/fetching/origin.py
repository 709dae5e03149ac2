"""One server: its threads, whose request is sent next, and how many are sent at a time.

There is one `Origin` for each server in the process. All fetchers share it, so that the limit of connections
holds for all of them together. What happens here happens under one lock. The threads of users do not take it:
Ctrl-C would break them off in the middle. The clerk, a thread of its own, acts for them.
"""

import _thread
import heapq
import itertools
import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from rio_terrascope.http import NoAnswerError
from rio_terrascope.opening.look import origin_of
from rio_terrascope.reading.fetching.answers import WHOLE, Failed, Got, Outcome, Steps, Trouble
from rio_terrascope.reading.fetching.choice import new_transport
from rio_terrascope.reading.fetching.throttle import Throttle
from rio_terrascope.reading.fetching.transport import IDLE_SECONDS, Transport

log = logging.getLogger(__name__)

_MOST_REFUSALS = 30  # of one request, with 429, while the server answers others
_ENOUGH = 2 * 2**20  # bytes under way over one connection: what 1 Gbit/s and 15 ms hold
_BRIEFLY = 0.05  # seconds; a request that was refused while others succeed waits so long at first


class Asker(Protocol):
    """What asks for ranges: a `Fetcher`."""

    closed: bool
    under_way: int  # changed under the lock only

    def takes_more(self) -> bool:
        """Tell whether another request may be sent for it now. If not, it asks for `go_on` later."""

    def deliver(self, request: "Request", outcome: Got | Failed) -> None:
        """Take what has come of a request."""


class Request:
    """A request for one range, until it succeeds or fails.

    Attributes
    ----------
    parts : list of (int, int, int)
        The ranges in it: a number, the offset in the file, the length.
    """

    __slots__ = ("asker", "parts", "refusals", "sent", "steps", "troubles")

    def __init__(self, asker: Asker, steps: Steps, parts: list[tuple[int, int, int]]) -> None:
        self.asker, self.steps, self.parts = asker, steps, parts
        self.troubles = 0
        self.refusals = 0
        self.sent = 0.0  # on the monotonic clock


class Opening:
    """One more connection, to be opened while the first request is under way."""

    def __init__(self, asker: Asker, steps: Steps) -> None:
        self.asker, self.steps = asker, steps


class Origin:
    """One server."""

    def __init__(self) -> None:
        self._waiting: dict[Asker, deque[Request]] = {}  # whose turn is next, comes first
        self._openings: list[Opening] = []
        self._late: list[tuple[float, int, Request]] = []  # those that wait for a time, as a heap
        self._free_until = 0.0  # the server wants to be left alone until then
        self._woken_at = float("inf")
        self._running: dict[Request | Opening, tuple[Transport, int]] = {}  # and their threads
        self._under_way = 0
        self._bytes = 0  # that these have asked for
        self._idle: list[queue.SimpleQueue[Request | Opening]] = []  # the seats of threads without work
        self._threads = 0
        self._transports: dict[Any, Transport] = {}
        self._throttle = Throttle()
        self._succeeded = 0.0  # when a request was last answered

    def add(self, request: Request, *, first: bool = False) -> None:
        """Note a request that is to be sent."""
        waiting = self._waiting.setdefault(request.asker, deque())
        if first:
            waiting.appendleft(request)
        else:
            waiting.append(request)

    def drop(self, asker: Asker) -> None:
        """Send nothing more for an asker, and end what is under way for it."""
        self._waiting.pop(asker, None)
        self._late = [entry for entry in self._late if entry[2].asker is not asker]
        heapq.heapify(self._late)
        self._openings = [opening for opening in self._openings if opening.asker is not asker]
        for request, (transport, thread) in self._running.items():
            if request.asker is asker:
                transport.end(thread)

    def dispatch(self) -> None:
        """Send what may be sent now."""
        while (found := self._next()) is not None:
            self._under_way += 1
            self._bytes += found.steps.length
            found.asker.under_way += 1
            if self._idle:
                self._idle.pop().put(found)
                continue
            try:
                self._threads += 1
                _thread.start_new_thread(self._work, (found,))
            except RuntimeError:  # there are too many threads, or Python is ending
                self._threads -= 1
                self._settle(found, found.steps.no_answer(NoAnswerError("no thread can be started")))

    def _next(self) -> Request | Opening | None:
        now = time.monotonic()
        while self._late and self._late[0][0] <= now:
            self.add(heapq.heappop(self._late)[2], first=True)
        if now < self._free_until:
            if self._waiting or self._late:
                self._wake_at(self._free_until)
            return None
        if self._late:
            self._wake_at(self._late[0][0])
        for asker, requests in list(self._waiting.items()):
            if not asker.takes_more():
                continue
            request = self._first_of(requests)
            if request is not None and not self._has_room(request.steps):
                return None
            if request is not None and not self._pays(request, len(requests)):
                continue
            del self._waiting[asker]
            if request is not None:
                requests.popleft()
            if requests:
                self._waiting[asker] = requests  # at the end
            if request is not None:
                return request
        while self._openings:
            opening = self._openings.pop()
            if self._has_room(opening.steps) and opening.asker.takes_more():
                return opening
        return None

    def _first_of(self, requests: deque[Request]) -> Request | None:
        """Return the first request that is for this server. Others have been led elsewhere."""
        while requests:
            requests[0].steps.aim()
            there = origin_for(requests[0].steps.url)
            if there is self:
                return requests[0]
            there.add(requests.popleft())
            clerk.call(there.dispatch)
        return None

    def _has_room(self, steps: Steps) -> bool:
        transport = self._transport(steps)
        # over one connection, all that is asked for would come at the end
        is_enough = transport.shares_connection and self._bytes >= _ENOUGH
        return not is_enough and self._under_way < min(self._throttle.allowed, transport.at_once)

    def _pays(self, request: Request, waiting: int) -> bool:
        """Tell whether a connection is free, or so many requests wait that a new one pays.

        A new one takes three round trips to its first answer (TCP, TLS, HTTP), an established one that is
        busy about two. Only an asker's own requests count: another's may hang.
        """
        threads = [thread for found, (_, thread) in self._running.items() if found.asker is request.asker]
        free, used = self._transport(request.steps).established(threads)
        starting = int(request.asker.under_way) - len(threads)  # they will take the free ones
        return free > starting or waiting > used + min(free, starting)

    def open_connections(self, asker: Asker, steps: Steps, count: int) -> None:
        """Open connections, as far as there is room for them now."""
        self._openings = [Opening(asker, steps) for _ in range(count)]
        self.dispatch()
        self._openings = []

    def _transport(self, steps: Steps) -> Transport:
        source = steps.source
        key = (source.options.of_connection, source.most, steps.url.partition("/")[0])
        transport = self._transports.get(key)
        if transport is None:
            in_use = [used for used, _ in self._running.values()]
            for other, unused in list(self._transports.items()):
                if unused not in in_use:
                    self._transports.pop(other).close()
            transport = self._transports[key] = new_transport(steps.url, source.options, source.most)
        return transport

    def _wake_at(self, moment: float) -> None:
        if moment < self._woken_at:
            self._woken_at = moment
            clerk.call(self._wake, at=moment)

    def _wake(self) -> None:
        self._woken_at = float("inf")
        self.dispatch()

    def _work(self, found: Request | Opening) -> None:
        """Send requests, until there has been none for a while."""
        seat: queue.SimpleQueue[Request | Opening] = queue.SimpleQueue()
        while True:
            outcome = self._send(found)
            with lock():
                self._settle(found, outcome)
                self._idle.append(seat)
                self.dispatch()
            del found, outcome
            try:
                found = seat.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                with lock():
                    if seat in self._idle:
                        self._idle.remove(seat)
                        self._threads -= 1
                        if not self._threads:
                            self._close()
                        return
                found = seat.get()

    def _close(self) -> None:
        for transport in self._transports.values():
            transport.close()
        self._transports.clear()

    def _send(self, found: Request | Opening) -> Outcome | None:
        steps = found.steps
        try:
            with lock():
                transport = self._transport(steps)
                self._running[found] = (transport, threading.get_ident())
            if isinstance(found, Opening):
                transport.connect()
                return None
            found.sent = time.monotonic()
            token = steps.token()
            if found.asker.closed:
                return Failed(NoAnswerError("nobody waits for it"))
            try:
                answer = transport.get(
                    steps.url,
                    steps.headers(),
                    None if token is None else token.access_secret,
                    limit=max(WHOLE, steps.length),
                )
            except NoAnswerError as error:
                return steps.no_answer(error)
            return steps.judge(answer)
        except Exception as error:  # no token, above all
            return Failed(error)

    def _settle(self, found: Request | Opening, outcome: Outcome | None) -> None:
        """Note what has come of a request, and when it is to be sent again."""
        self._running.pop(found, None)
        self._under_way -= 1
        self._bytes -= found.steps.length
        found.asker.under_way -= 1
        if isinstance(found, Request) and outcome is not None:
            try:
                self._take(found, outcome)
            except Exception as error:  # or its asker would wait without end
                found.asker.deliver(found, Failed(error))
        go_on(found.asker, besides=self)  # it may send one more now

    def _take(self, request: Request, outcome: Outcome) -> None:
        now = time.monotonic()
        if isinstance(outcome, Trouble):
            if not request.asker.closed:
                self._try_again(request, outcome, now)
        else:
            self._succeeded = now
            self._throttle.success()
            if isinstance(outcome, Got | Failed):
                request.asker.deliver(request, outcome)
            elif not request.asker.closed:
                there = origin_for(request.steps.url)
                there.add(request, first=True)
                if there is not self:
                    there.dispatch()

    def _try_again(self, request: Request, trouble: Trouble, now: float) -> None:
        options = request.steps.source.options
        if trouble.crowded:
            most = self._transport(request.steps).at_once
            self._throttle.trouble(request.sent, self._under_way + 1, most)
        others_succeed = self._under_way > 0 or self._succeeded > request.sent
        first = request.refusals == 0
        if trouble.refused and (first or others_succeed) and request.refusals < _MOST_REFUSALS:
            pause = min(options.delay, _BRIEFLY * 2**request.refusals)
            request.refusals += 1
        elif request.troubles < options.retries:
            pause = options.delay * 2**request.troubles
            request.troubles += 1
            if trouble.refused:  # all are refused
                self._free_until = max(self._free_until, now + pause)
        else:
            request.asker.deliver(request, Failed(trouble.error))
            return
        if trouble.pause is not None:
            self._free_until = max(self._free_until, now + trouble.pause)
        heapq.heappush(self._late, (now + pause, next(_numbers), request))


class Clerk:
    """A thread that calls functions under the lock, at once or at a time."""

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[tuple[float, int, Callable[[], object]]] = queue.SimpleQueue()
        self._is_there = False

    def call(self, function: Callable[[], object], *, at: float = 0.0) -> None:
        """Let the clerk call a function. This returns at once.

        Raises
        ------
        RuntimeError
            If no thread can be started.
        """
        self._inbox.put((at, next(_numbers), function))
        if not self._is_there:
            # Two clerks, if two threads come here at a time, do no harm.
            _thread.start_new_thread(self._run, ())
            self._is_there = True

    def _run(self) -> None:
        later: list[tuple[float, int, Callable[[], object]]] = []
        while True:
            try:
                wait = max(0.0, later[0][0] - time.monotonic()) if later else None
                heapq.heappush(later, self._inbox.get(timeout=wait))
            except queue.Empty:
                pass
            while later and later[0][0] <= time.monotonic():
                function = heapq.heappop(later)[2]
                try:
                    with lock():
                        function()
                except Exception:  # the clerk must go on, or no request would be sent again
                    log.exception("unexpected trouble of the fetching; it goes on")
                del function


_numbers = itertools.count()
_lock = threading.Lock()
_origins: dict[tuple[str, str, int], Origin] = {}
clerk = Clerk()


def lock() -> threading.Lock:
    """Return the lock of all origins. It is never held over a request."""
    return _lock


def origin_for(url: str) -> Origin:
    """Return the server of a URL. The caller holds the lock."""
    return _origins.setdefault(origin_of(url), Origin())


def go_on(asker: Asker, *, besides: Origin | None = None) -> None:
    """Send for an asker what may be sent now. The caller holds the lock."""
    for origin in list(_origins.values()):
        if origin is not besides and asker in origin._waiting:
            origin.dispatch()


def drop(asker: Asker) -> None:
    """Send nothing more for an asker, and end what is under way. The caller holds the lock."""
    for origin in _origins.values():
        origin.drop(asker)


def _after_fork_in_child() -> None:
    # the parent's threads do not survive a fork, and its connections are not to be used by two
    global _lock, clerk
    _lock = threading.Lock()
    _origins.clear()
    clerk = Clerk()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
