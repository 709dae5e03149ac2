"""Read for a long time while faults occur at random: ``python tests/soak.py --minutes 60``.

With ``--freeze``, only the two faults occur that make GDAL report errors while other threads wait for it.

Threads and processes read a tile in every supported way, from a sandbox with tokens of 5 s, and compare
every pixel with the file, while the token endpoint and the data server have one fault after another. A read
that raises is repeated, as a user would do. Exits with 1 if a pixel was wrong, a read kept failing, a token
went to another host, files were left behind, or a process hung, which then prints the stacks of its threads.
"""

import argparse
import contextlib
import faulthandler
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from helpers import headers_in_memory, some_windows
from rio_terrascope import TerrascopeError, read_windows, sample, terrascope_env
from rio_terrascope.env import TerrascopeEnv
from rio_terrascope.gdal import cache
from rio_terrascope.sandbox import Sandbox

THREADS = 16  # in this process
THREADS_OF_A_CHILD = 2  # in each of the two child processes
LIFETIME = 5.0  # of a token, in seconds
TRIES = 40  # before a read counts as failed, half a second apart
REST = 0.1  # the longest pause between two reads of a thread, in seconds
STANDS_STILL = 90  # seconds without any read, right or not, until a process prints its stacks and ends

# Give up a hanging connection after 2 s instead of 30, and cache little.
OPTIONS = {"GDAL_HTTP_LOW_SPEED_TIME": 2, "GDAL_CACHEMAX": 64}


# Reading


class Reader:
    """The reads of one thread: an open dataset, the file to compare with, and the outcomes."""

    def __init__(self, env: TerrascopeEnv, urls: list[str], open_url: str, file: str, seed: int) -> None:
        self.env, self.urls, self.open_url, self.file = env, urls, open_url, file
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.remote = None

    def run(self, ended: threading.Event) -> None:
        with rasterio.open(self.file) as self.local:
            while not ended.is_set():
                try:
                    self.once(ended)
                except Exception:
                    self.counts["failed"] += 1
                    traceback.print_exc()
                ended.wait(self.random.uniform(0, REST))
        self.close()

    def once(self, ended: threading.Event) -> None:
        """Make one read of a random kind, and repeat it until it is right or counts as failed."""
        (how,) = self.random.choices(
            [self.window, self.newly_opened, self.overview, self.windows, self.points, self.elsewhere],
            weights=[50, 20, 5, 10, 10, 5],
        )
        for attempt in range(TRIES):
            if self.random.random() < 0.3:
                cache.forget(self.random.choice(self.urls))
            try:
                seen, expected = how()
            except (RasterioError, TerrascopeError) as error:
                self.counts[f"raised {type(error).__name__}"] += 1
                self.close()
                self.env.forget()  # GDAL remembers failures
                if ended.wait(0.5):
                    self.counts["unfinished"] += 1
                    return
            else:
                self.counts["reads"] += 1
                self.counts["repeated"] += attempt > 0
                if not np.array_equal(seen, expected):
                    self.counts["wrong"] += 1
                    different = np.mean(np.asarray(seen) != np.asarray(expected))
                    print(
                        f"WRONG: {how.__name__}, {different:.1%} of {np.size(expected)} pixels, "
                        f"seen {np.unique(np.asarray(seen)[np.asarray(seen) != expected])}",
                        flush=True,
                    )
                return
        self.counts["failed"] += 1

    def close(self) -> None:
        if self.remote is not None:
            self.remote.close()
            self.remote = None

    def some(self, count: int = 1):
        return list(some_windows(count, seed=self.random.random()))

    def window(self):
        """Read a window of a dataset that stays open, over any number of tokens."""
        if self.remote is None or self.random.random() < 0.005:
            self.close()
            self.remote = self.env.open(self.random.choice(self.urls))
        (window,) = self.some()
        return self.remote.read(1, window=window), self.local.read(1, window=window)

    def newly_opened(self):
        """Open a dataset for one window, without the recovery of env.open.

        No other thread reads the URL, because rasterio may hang then (README, "When things go wrong").
        """
        (window,) = self.some()
        with rasterio.open(f"{self.urls[0]}-of-{id(self)}-in-{os.getpid()}") as remote:
            return remote.read(1, window=window), self.local.read(1, window=window)

    def overview(self):
        part = {"window": ((16384, 24576), (8192, 16384)), "out_shape": (256, 256)}
        with self.env.open(self.random.choice(self.urls)) as remote:
            return remote.read(1, **part), self.local.read(1, **part)

    def windows(self):
        windows = self.some(8)
        url = self.random.choice(self.urls)
        seen = list(read_windows([(url, window) for window in windows], max_workers=4))
        return np.stack(seen), np.stack([self.local.read(window=window) for window in windows])

    def points(self):
        points = [self.local.xy(window.row_off, window.col_off) for window in self.some(20)]
        seen = sample(self.random.choice(self.urls), points, max_workers=4)
        return seen.data, np.stack(list(self.local.sample(points)))

    def elsewhere(self):
        """Read a window from a third party's server, which gets no token."""
        (window,) = self.some()
        with rasterio.open(f"{self.open_url}?of={id(self)}-in-{os.getpid()}") as remote:
            return remote.read(1, window=window), self.local.read(1, window=window)


def read_in_threads(env, threads: int, urls, open_url, file, seed: int, ended) -> Counter[str]:
    """Read in threads. If none of them gets anywhere, print the stacks of all, and end the process.

    The watch is faulthandler's, which does not need the GIL.
    """
    readers = [Reader(env, urls, open_url, file, seed + number) for number in range(threads)]
    # daemons, so that the process ends if its main thread fails
    running = [threading.Thread(target=reader.run, args=(ended,), daemon=True) for reader in readers]
    faulthandler.dump_traceback_later(STANDS_STILL, exit=True)
    for thread in running:
        thread.start()
    before = 0
    while any(thread.is_alive() for thread in running):
        if (done := sum(reader.counts.total() for reader in readers)) > before:
            faulthandler.dump_traceback_later(STANDS_STILL, exit=True)
            before = done
        time.sleep(1)
    return sum((reader.counts for reader in readers), Counter())


def child(pipe, *where) -> None:
    """Read, in a child process, until the parent sends a message or ends."""
    ended = threading.Event()

    def wait() -> None:
        with contextlib.suppress(EOFError):  # the parent has ended
            pipe.recv()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    with terrascope_env(**OPTIONS) as env:
        pipe.send(read_in_threads(env, THREADS_OF_A_CHILD, *where, ended))


# Faults


def faults(sandbox: Sandbox) -> dict[str, object]:
    """Return the faults by name. Some of them last until `heal`."""

    def login_page() -> None:
        sandbox.login_page()
        sandbox.expire_tokens()

    return {
        "401": lambda: sandbox.fail(401),
        "403": lambda: sandbox.fail(403),
        "404": lambda: sandbox.fail(404),
        "429": lambda: sandbox.fail(429, times=3, headers={"Retry-After": "1"}),
        "500": lambda: sandbox.fail(500, times=2),
        "502": lambda: sandbox.fail(502, times=4),
        "503": lambda: sandbox.fail(503, times=8),
        "HTML with 200": lambda: sandbox.fail(200, body="<html>Sorry</html>", content_type="text/html"),
        "reset": lambda: sandbox.reset(times=2),
        "reset in the body": lambda: sandbox.reset(times=2, after=5000),
        "short body": lambda: sandbox.truncate(times=2, after=3000),
        "slow body": lambda: sandbox.drip(0.05, times=2),
        "stalled connection": lambda: sandbox.hang(),
        "wrong Content-Range": lambda: sandbox.wrong_content_range(),
        "no Range support": lambda: sandbox.no_ranges(),
        "slow network": lambda: sandbox.latency(0.2),
        "login page": login_page,
        "tokens revoked": sandbox.revoke_tokens,
        "tokens expired": sandbox.expire_tokens,
        "sessions ended": sandbox.end_sessions,
        "endpoint 429": lambda: sandbox.fail(429, times=2, server="sso", headers={"Retry-After": "1"}),
        "endpoint 500": lambda: sandbox.fail(500, server="sso"),
        "endpoint 503": lambda: sandbox.fail(503, times=4, server="sso"),
        "endpoint HTML": lambda: sandbox.token_answer("<html>Sorry</html>"),
        "endpoint truncated": lambda: sandbox.token_answer('{"access_token": "ey'),
        "endpoint reset": lambda: sandbox.reset(times=2, server="sso"),
        "endpoint hangs": lambda: sandbox.hang(server="sso"),
        "endpoint slow": lambda: sandbox.drip(0.5, server="sso"),
    }


def freezing_faults(sandbox: Sandbox) -> dict[str, object]:
    """Return the faults that make GDAL report errors while a thread fetches what others wait for."""

    def slow_without_ranges() -> None:
        sandbox.latency(0.1)
        sandbox.no_ranges()

    return {"no Range support": sandbox.no_ranges, "the same, and a slow network": slow_without_ranges}


class Trouble(threading.Thread):
    """Causes one fault after another, and counts them."""

    def __init__(self, sandbox: Sandbox, kinds: dict[str, object], ended: threading.Event, seed: int) -> None:
        super().__init__(name="trouble", daemon=True)
        self.sandbox, self.kinds, self.ended, self.random = sandbox, kinds, ended, random.Random(seed)
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        waiting: list[str] = []
        while not self.ended.wait(self.random.uniform(0.2, 1.0)):
            if not waiting:  # so that all occur equally often
                waiting = self.random.sample(list(self.kinds), len(self.kinds))
            name = waiting.pop()
            self.kinds[name]()
            self.counts[name] += 1
            self.ended.wait(self.random.uniform(0.2, 2.0))
            self.heal()
        self.heal()

    def heal(self) -> None:
        self.sandbox.heal()  # ends faults that have not been used up
        self.sandbox.no_ranges(False)
        self.sandbox.login_page(False)
        self.sandbox.latency(0)


# Observation


class Watch(threading.Thread):
    """Counts the requests to the sandbox, and prints a line a minute."""

    def __init__(self, sandbox: Sandbox, ended: threading.Event) -> None:
        super().__init__(name="watch", daemon=True)
        self.sandbox, self.ended = sandbox, ended
        self.counts: Counter[str] = Counter()
        self.began = time.monotonic()

    def run(self) -> None:
        said = 0
        while not self.ended.wait(5):
            self.take()
            minutes = int((time.monotonic() - self.began) // 60)
            if minutes > said:
                said = minutes
                print(f"minute {minutes}: {usage(os.getpid())}", file=sys.stderr, flush=True)
        self.take()

    def take(self) -> None:
        for request in self.sandbox.take():
            what = request.grant if request.server == "sso" else f"token {request.authorization}"
            self.counts[f"{request.server} {what}"] += 1


def usage(pid: int) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    memory = int(status.split("VmRSS:")[1].split()[0]) // 1024
    return f"{memory} MB, {len(os.listdir(f'/proc/{pid}/fd'))} open files"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--freeze", action="store_true", help="only the faults that once froze the process")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="terrascope-soak-")))
        os.environ["XDG_RUNTIME_DIR"] = str(runtime)
        sandbox = stack.enter_context(Sandbox(token_lifetime=LIFETIME))
        os.environ.update(sandbox.environ)
        kinds = (freezing_faults if options.freeze else faults)(sandbox)
        failed = soak(sandbox, kinds, options.minutes * 60, options.seed, runtime)
    sys.exit(failed)


def soak(sandbox: Sandbox, kinds: dict[str, object], seconds: float, seed: int, runtime: Path) -> bool:
    """Read for so many seconds, print the results, and return whether anything went wrong."""
    urls = [sandbox.url(f"?copy={number}") for number in range(8)]
    where = (urls, sandbox.other_url(), str(sandbox.file()))
    ended = threading.Event()
    began = time.monotonic()
    with terrascope_env(**OPTIONS) as env:
        children = []
        for number, method in enumerate(("fork", "spawn"), start=1):
            context = multiprocessing.get_context(method)
            mine, its = context.Pipe()
            process = context.Process(target=child, args=(its, *where, seed + 1000 * number))
            process.start()
            its.close()
            children.append((mine, process))
        watch, trouble = Watch(sandbox, ended), Trouble(sandbox, kinds, ended, seed)
        counts: list[Counter[str]] = []
        # Started after the fork, whose child would not survive the watch on it.
        reading = threading.Thread(
            target=lambda: counts.append(read_in_threads(env, THREADS, *where, seed, ended)), daemon=True
        )
        for thread in (watch, reading, trouble):
            thread.start()
        processes = [("this process", os.getpid())]
        processes += [(f"process {number}", p.pid) for number, (_, p) in enumerate(children, start=2)]
        ended.wait(min(20, seconds / 4))  # until all threads and processes are reading
        at_start = {pid: usage(pid) for _, pid in processes}
        ended.wait(max(0, began + seconds - time.monotonic()))
        at_end = {pid: usage(pid) for _, pid in processes}
        ended.set()
        for mine, _ in children:
            mine.send("over")
        reading.join()
        for mine, process in children:
            counts.append(mine.recv() if mine.poll(120) else Counter(failed=1))
            process.join()
        trouble.join()
        watch.join()
    faulthandler.cancel_dump_traceback_later()
    left_behind = [*headers_in_memory(), *(str(path.relative_to(runtime)) for path in runtime.rglob("*"))]

    read, received = sum(counts, Counter()), watch.counts
    leaks = sum(count for what, count in received.items() if what == "other token present")
    raised = {what.removeprefix("raised "): n for what, n in read.items() if what.startswith("raised ")}
    print(f"minutes: {(time.monotonic() - began) / 60:.1f} (tokens of {LIFETIME:g} s, seed {seed})")
    print(f"reads, each compared with the file: {read['reads']:,}; wrong: {read['wrong']}")
    print(f"faults: {sum(trouble.counts.values())} of {len(trouble.counts)} kinds")
    print(f"reads that raised and were right when repeated: {read['repeated']:,} {raised}")
    print(f"reads that failed for good: {read['failed']}")
    print(f"logins: {received['sso password']}, refreshes: {received['sso refresh_token']:,}")
    print(f"requests: {dict(sorted((w, n) for w, n in received.items() if not w.startswith('sso')))}")
    print(f"tokens that went elsewhere: {leaks}")
    print(f"left behind: {left_behind or 'nothing'}")
    for name, pid in processes:
        print(f"{name}: {at_start[pid]} at the start; {at_end[pid]} at the end")
    return bool(read["wrong"] or read["failed"] or leaks or left_behind or not read["reads"])


if __name__ == "__main__":
    main()
