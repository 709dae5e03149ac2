"""The engine of all bulk reads: plan, fetch, decode.

A request names a raster and says what to read of it. The engine takes requests in order, has many under
way, and yields the results in the same order. For a file on the network:

1. Plan. The first 32 KB bring the header, and the header says where each block lies.
2. Fetch. An HTTP client gets the blocks, each once.
3. Decode. GDAL reads the pixels from memory, where header and blocks stand in for the file.

So GDAL never touches the network. A file that is not a TIFF is fetched whole. What is not a file on the
network (a local path, a VRT) is opened by GDAL itself, in threads.
"""

import collections
import contextlib
import itertools
import os
import queue
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from os import PathLike, fspath
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

import rasterio
import rasterio.env
from rasterio.errors import RasterioIOError

from rio_terrascope.gdal.opening import is_http
from rio_terrascope.reading.decode import pinned_options, warm_up
from rio_terrascope.reading.fetching import Fetched, Fetcher, Source
from rio_terrascope.reading.jobs import Job, Ready, Request
from rio_terrascope.reading.ordinary import Datasets, naming, open_dataset
from rio_terrascope.reading.pieces import Pieces, Range
from rio_terrascope.reading.remote import Remote

T = TypeVar("T")

Progress = Callable[[int, int | None], object]
"""Called in the reading thread with the amount done and the total, which is None if it is unknown."""

_MOST_AHEAD = 1024  # requests that are taken before the results of earlier ones are
_MOST_FETCHED = 16 * 2**20  # bytes of blocks that are under way, or wait to be decoded
_MOST_DECODED = 16 * 2**20  # bytes of arrays that are being read, or wait to be taken
_MOST_IDLE = 16 * 2**20  # bytes of headers that no request needs at present
_MOST_DECODERS = 8  # each takes memory, and its share of Python's global lock, however many cores there are
_TOGETHER = 8  # windows for which a file is opened once


class Engine:
    """Reads parts of rasters, many at a time; a context manager that stops all that is under way.

    Parameters
    ----------
    max_workers : int, optional
        The most requests to servers, and reads of local files, that are under way together. Default: as
        many as the settings allow.

    Raises
    ------
    ValueError
        If `max_workers` is less than 1.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None and max_workers < 1:
            raise ValueError(f"max_workers is {max_workers}; at least 1 is needed.")
        self._max_workers = max_workers
        self._ahead = 2 * max_workers if max_workers else _MOST_AHEAD

    def __enter__(self) -> Self:
        self._is_closed = False
        self._fetcher = Fetcher(at_once=self._max_workers)
        self._start_threads()
        self._options = rasterio.env.getenv() if rasterio.env.hasenv() else {}
        self._opened = contextlib.ExitStack()
        self._remotes: dict[str, Remote] = {}
        self._by_source: dict[Source, Remote] = {}
        self._idle: dict[Remote, None] = {}  # those that no job needs, the latest last
        self._idle_bytes = 0
        self._unasked: dict[Job, None] = {}  # planned; in their order
        self._is_full = self._is_warm = False
        self._ready: dict[Job, None] = {}  # with all their blocks
        self._fetched = self._decoded = 0  # bytes
        self._pieces = Pieces()
        return self

    def _start_threads(self) -> None:
        self._process = os.getpid()
        self._batches: queue.SimpleQueue[tuple[Remote, list[Job]] | None] = queue.SimpleQueue()
        self._decoders = [Thread(target=self._decode_batches, daemon=True) for _ in range(_decoders())]
        for decoder in self._decoders:
            decoder.start()
        self._others = ThreadPoolExecutor(self._max_workers or 16, thread_name_prefix="rio-terrascope-read")
        self._datasets = Datasets()

    def _go_on_after_fork(self, jobs: Iterable[Job]) -> None:
        """In a child: let threads of its own read what the parent's were reading."""
        self._fetcher.renew_after_fork()  # or what these threads have read would be dropped with the rest
        self._start_threads()
        for job in jobs:
            if job.was_handed_on and not job.is_done:
                self._decoded -= job.decoded
                job.was_handed_on = False
                self._ready[job] = None

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        self._fetcher.close()
        self._is_closed = True
        if self._process != os.getpid() or sys.is_finalizing():
            return  # the threads are the parent's, or will not run again
        for _ in self._decoders:
            self._batches.put(None)
        for decoder in self._decoders:
            decoder.join()
        self._others.shutdown(cancel_futures=True)
        self._datasets.close()
        for remote in self._remotes.values():
            remote.close()
        self._opened.close()

    def run(self, requests: Iterable[Request[T] | Ready[T]]) -> Iterator[T]:
        """Yield the results of requests, in their order.

        `requests` is consumed as the results are taken, so it may be endless. An engine runs one list of
        requests at a time, to its end.

        Raises
        ------
        AccessDeniedError
            If a URL is refused.
        rasterio.errors.RasterioIOError
            If a raster cannot be read. The message begins with the URL.
        """
        incoming = iter(requests)
        jobs: collections.deque[Job] = collections.deque()
        while True:
            if self._process != os.getpid():
                self._go_on_after_fork(jobs)
            # half of them at a time, so that neighbouring blocks are asked for together
            if len(jobs) <= self._ahead // 2:
                jobs.extend(map(self._start, itertools.islice(incoming, self._ahead - len(jobs))))
                self._connect()
            if self._remotes and not self._is_warm:
                self._is_warm = True
                warm_up()
            if not jobs:
                return
            while True:
                self._ask(jobs[0])
                self._read(jobs[0])
                if jobs[0].is_done:
                    break
                self._handle_events()
            job = jobs.popleft()
            self._take_off(job)
            yield job.result()

    def open(self, url: str | PathLike[str]) -> Any:
        """Open a raster for its metadata. The dataset is closed with the engine.

        Raises
        ------
        AccessDeniedError, rasterio.errors.RasterioIOError
            As in `run`.
        """
        url = fspath(url)
        with naming(url):
            if is_http(url):
                next(self.run([Request(url, lambda _: None, lambda *_: None)]))
                remote = self._remotes[url]
                if not remote.is_for_gdal:
                    return self._opened.enter_context(remote.open({}))
            return self._opened.enter_context(open_dataset(url))

    def _start(self, request: Request[Any] | Ready[Any]) -> Job:
        job = Job(request)
        if isinstance(request, Ready):
            job.outcome, job.is_done = request.result, True
            return job
        if is_http(job.url):
            try:
                job.remote = self._remotes.get(job.url) or self._new_remote(job.url)
            except Exception as error:
                job.error, job.is_done = error, True
                return job
            if job.remote in self._idle:
                del self._idle[job.remote]
                self._idle_bytes -= job.remote.nbytes
            job.remote.users += 1
        if job.remote is not None and not job.remote.is_known:
            job.remote.waiting.append(job)
        else:
            self._plan(job)
        return job

    def _new_remote(self, url: str) -> Remote:
        remote = Remote(url, self._fetcher)
        self._remotes[url] = self._by_source[remote.source] = remote
        return remote

    def _connect(self) -> None:
        """Open the connections for many requests while the header is on its way."""
        for remote in self._remotes.values():
            if len(remote.waiting) > 1:
                self._fetcher.connect(remote.source, len(remote.waiting) - 1)

    def _take_off(self, job: Job) -> None:
        """Let go of a job that is done. Headers that no job needs are kept, up to some bytes."""
        self._decoded -= job.decoded * job.was_handed_on
        if (remote := job.remote) is None:
            return
        remote.users -= 1
        if remote.users == 0 and self._remotes.get(remote.url) is remote:
            remote.close()
            self._idle[remote] = None
            self._idle_bytes += remote.nbytes
        while self._idle_bytes > _MOST_IDLE:
            oldest = next(iter(self._idle))
            del self._idle[oldest], self._remotes[oldest.url], self._by_source[oldest.source]
            self._idle_bytes -= oldest.nbytes

    def _plan(self, job: Job) -> None:
        """Find out which ranges a job needs. A raster that GDAL opens itself needs none."""
        if job.remote is not None and not job.remote.is_for_gdal:
            try:
                with naming(job.url):
                    dataset = job.remote.dataset
                    job.part = job.request.part(dataset)
                    if job.part is None:
                        job.outcome = job.request.read(None, dataset)
                        job.is_done = True
                        return
                    ranges = job.remote.ranges(job.part)
                    if ranges is None:
                        job.remote.waiting.append(job)
                        return
                    job.ranges = ranges
                    job.fetched = sum(length for _, length in ranges)
                    job.decoded = 0 if job.request.is_small else job.part.nbytes(dataset)
            except Exception as error:
                job.error, job.is_done = error, True
                return
        else:
            job.decoded = _MOST_DECODED // 32  # not known before it is read
        self._unasked[job] = None

    def _ask(self, next_job: Job) -> None:
        """Ask for what the jobs need, in their order, as far as the memory goes.

        If it is full, wait until half of it is free, so that neighbouring blocks are asked for together.
        """
        wanted: dict[Remote, list[Range]] = {}
        self._is_full &= self._fetched > _MOST_FETCHED // 2
        while self._unasked:
            job = next_job if next_job in self._unasked else next(iter(self._unasked))
            self._is_full |= self._fetched + job.fetched > _MOST_FETCHED
            if self._is_full and job is not next_job:
                break
            del self._unasked[job]
            self._fetched += job.fetched
            for range_ in job.ranges:
                piece, is_new = self._pieces.use(job.remote, range_)
                job.pieces.append(piece)
                if is_new:
                    wanted.setdefault(piece.key[0], []).append(range_)
                if piece.data is None:
                    piece.waiting.append(job)
                    job.missing += 1
            if job.missing == 0:
                self._ready[job] = None
        for remote, ranges in wanted.items():
            self._fetcher.ask(remote.source, ranges)

    def _read(self, next_job: Job) -> None:
        """Let threads read the jobs that have all their blocks, as far as the memory goes."""
        together: dict[Remote, list[Job]] = {}
        while self._ready:
            job = next_job if next_job in self._ready else next(iter(self._ready))
            if self._decoded + job.decoded > _MOST_DECODED and job is not next_job:
                break
            del self._ready[job]
            job.was_handed_on = True
            self._decoded += job.decoded
            remote: Remote | None = job.remote
            if remote is None or remote.is_for_gdal:
                self._others.submit(self._read_other, job)
            else:
                together.setdefault(remote, []).append(job)
        for there, jobs in together.items():
            for start in range(0, len(jobs), _TOGETHER):
                self._batches.put((there, jobs[start : start + _TOGETHER]))

    def _handle_events(self) -> None:
        """Wait until something has come or is done. See to it, and to all that has come since."""
        for event in self._events():
            if isinstance(event, list):
                for job in event:
                    self._finish(job)
            elif (remote := self._by_source.get(event.source)) is None:
                continue  # its file was let go of, after another range had failed
            elif remote.awaits(event.offset, event.length):
                self._take_header(remote, event)
            else:
                self._take(remote, event)

    def _events(self) -> Iterator[Fetched | list[Job]]:
        yield self._fetcher.next()
        with contextlib.suppress(TimeoutError):
            while True:
                yield self._fetcher.next(timeout=0)

    def _take_header(self, remote: Remote, came: Fetched) -> None:
        """Add a range to a header. If the header is whole, plan the jobs that wait for it."""
        try:
            if came.data is None:
                raise came.error or RuntimeError("nothing has come")
            with naming(remote.url):
                remote.add_header(came.offset, came.length, came.data)
        except Exception as error:
            if self._remotes.get(remote.url) is remote:
                del self._remotes[remote.url]
            for job in remote.waiting:
                job.error, job.is_done = error, True
        else:
            if remote.is_known:
                waiting, remote.waiting = remote.waiting, []
                for job in waiting:
                    self._plan(job)

    def _take(self, remote: Remote, came: Fetched) -> None:
        """Note a range of blocks."""
        piece = self._pieces.find(remote, (came.offset, came.length))
        if piece is None:
            return
        piece.data = came.data
        if came.error is not None:
            self._pieces.drop(piece)
        for job in piece.waiting:
            job.missing -= 1
            job.error = job.error or came.error
            if job.error is not None:
                self._end(job)
            elif job.missing == 0:
                self._ready[job] = None
        piece.waiting.clear()

    def _decode_batches(self) -> None:
        """In a thread: read the pixels of jobs, until the engine is closed."""
        with pinned_options():
            warm_up()
            while (batch := self._batches.get()) is not None and not self._is_closed:
                self._decode(*batch)
                del batch

    def _decode(self, remote: Remote, jobs: list[Job]) -> None:
        try:
            blocks = {piece.key[1][0]: piece.data for job in jobs for piece in job.pieces if piece.data}
            with naming(remote.url), remote.open(blocks) as dataset:
                for job in jobs:
                    job.read(dataset)
        except Exception as error:
            for job in jobs:
                job.error = error
        self._fetcher.put(jobs)

    def _read_other(self, job: Job) -> None:
        """In a thread: read from what GDAL opens itself."""
        try:
            # the options of the main thread's Env hold in all threads, but vanish for moments
            with rasterio.Env():
                rasterio.env.setenv(**self._options)
                with naming(job.url), self._datasets.lend(job.url) as dataset:
                    job.part = job.request.part(dataset)
                    job.outcome = job.request.read(job.part, dataset)
        except Exception as error:
            job.error = error
        self._fetcher.put([job])

    def _finish(self, job: Job) -> None:
        """See to a job that has been read. If GDAL cannot decode its blocks, get them once more."""
        if isinstance(job.error, RasterioIOError) and job.pieces and not job.is_second_try:
            for piece in job.pieces:
                self._pieces.drop(piece)
            job.pieces.clear()
            job.error, job.is_second_try = None, True
            self._fetched -= job.fetched
            self._decoded -= job.decoded * job.was_handed_on
            job.was_handed_on = False
            self._unasked[job] = None
        else:
            self._end(job)

    def _end(self, job: Job) -> None:
        if job.is_done:
            return
        self._fetched -= job.fetched
        for piece in job.pieces:
            self._pieces.release(piece)
        job.pieces.clear()
        job.is_done = True


def _decoders() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_DECODERS)
