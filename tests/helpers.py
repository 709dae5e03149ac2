"""Helpers for several test modules."""

import ctypes
import os
import random
import select
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from rio_terrascope import terrascope_env
from rio_terrascope.gdal import cache, libgdal

TSREAD = Path(sys.executable).with_name("tsread")  # the installed command
RIO = TSREAD.with_name("rio")

# in the tile N00E006, where all blocks have data: column, row, width, height
LAND = (4700, 30500, 5200, 5400)

# short waits, so that the tests of faults are quick
SOON = {
    "GDAL_HTTP_CONNECTTIMEOUT": 1,
    "GDAL_HTTP_RETRY_DELAY": 0.02,
    "GDAL_HTTP_LOW_SPEED_TIME": 1,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 2000,
}
HTML = {"body": "<html>Log in</html>", "content_type": "text/html"}


def case(what, sees, requests, prepare):
    """One fault, one row of README's table."""
    return pytest.param(prepare, id=what, marks=pytest.mark.fault(what, sees=sees, requests=requests))


def keep_no_blocks():
    """Return an Env in which GDAL caches no decoded blocks, so that each read makes requests."""
    return rasterio.Env(GDAL_CACHEMAX=1)  # in bytes


class Clock:
    """A wall clock and a monotonic clock, which move only when a test moves them."""

    def __init__(self, wall=1_000_000.0):
        self.wall = wall
        self.monotonic = 5_000.0

    def read(self):
        return self.wall

    def read_monotonic(self):
        return self.monotonic

    def advance(self, seconds):
        self.wall += seconds
        self.monotonic += seconds


def some_windows(count, size=256, seed=0):
    """Yield random windows in the part of the tile that has data."""
    rng = random.Random(seed)
    left, top, width, height = LAND
    for _ in range(count):
        yield Window(left + rng.randrange(width - size), top + rng.randrange(height - size), size, size)


def assert_same_pixels(dataset, local, windows):
    """Compare windows of an open dataset with the local file.

    The file is opened here, because several threads may use it, and a dataset is for one thread only.
    """
    with rasterio.open(local.name) as own:
        for window in windows:
            np.testing.assert_array_equal(dataset.read(1, window=window), own.read(1, window=window))


def read_until(dataset, file, server, condition, *, forget=None):
    """Read windows and compare them with the file until the requests to `server` satisfy a condition.

    `forget` is called between windows, so that GDAL makes new requests.
    """
    done = threading.Event()

    def watch():
        server.wait_for(condition, timeout=60)
        done.set()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    windows = 0
    with keep_no_blocks(), rasterio.open(file) as local:
        for window in some_windows(1_000_000, seed=7):
            assert_same_pixels(dataset, local, [window])
            windows += 1
            if forget is not None:
                forget()
            if done.wait(0.02):
                return windows
            assert watcher.is_alive() or done.is_set(), "what was waited for did not come"
    raise AssertionError("out of windows")


def in_child(work, *, in_parent=lambda: None, seconds=60):
    """Run a function in a forked child. The test fails if the function raises or hangs.

    `in_parent` is called while the child runs.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    kill = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
    kill.start()
    try:
        in_parent()
    finally:
        _, status = os.waitpid(child, 0)
        kill.cancel()
    assert status != signal.SIGKILL, f"the child hangs: it was ended after {seconds} s"
    assert status == 0, "the child raised; see its traceback on stderr"


def read_terminal(terminal, until, seconds=60):
    """Return the output of a pseudo-terminal up to the bytes `until`. Fail if they do not come."""
    shown = b""
    deadline = time.monotonic() + seconds
    while until not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{until!r} did not come within {seconds} s; seen: {shown!r}"
        shown += os.read(terminal, 1024)
    return shown


def grants(requests, kind):
    """Count the token requests of one grant type."""
    return sum(request.grant == kind for request in requests)


def refreshed(times):
    """Return a condition for `wait_for`: the token was refreshed at least `times` times."""
    return lambda requests: grants(requests, "refresh_token") >= times


def most_at_once(requests, seconds):
    """Return the largest number of requests in any period of so many seconds."""
    times = [request.time for request in requests]
    return max(sum(start <= time < start + seconds for time in times) for start in times)


def tokens_sent(requests):
    """Return the states of the tokens in the requests, as a set."""
    return {request.authorization for request in requests}


# Functions that run in children of multiprocessing, which must be able to import them.


def read_while_told(url, file, pipe):
    """In a child: read and compare windows until the pipe says stop, then send their number."""
    count = 0
    with keep_no_blocks(), rasterio.open(url) as src, rasterio.open(file) as local:
        pipe.send("opened")
        for window in some_windows(100_000, seed=os.getpid()):
            np.testing.assert_array_equal(src.read(1, window=window), local.read(1, window=window))
            count += 1
            cache.forget(url)
            if pipe.poll(0.02):
                break
    pipe.send(count)


def enter_and_read(url, file, pipe):
    with terrascope_env():
        read_while_told(url, file, pipe)


def headers_in_memory():
    """Return the paths of the headers that this process keeps in GDAL's memory."""
    lib = libgdal.load()
    lib.VSIReadDirRecursive.restype = ctypes.POINTER(ctypes.c_char_p)
    lib.VSIReadDirRecursive.argtypes = [ctypes.c_char_p]
    lib.CSLDestroy.argtypes = [ctypes.c_void_p]
    names = lib.VSIReadDirRecursive(b"/vsimem/rio-terrascope")
    found = []
    while names and names[len(found)]:
        found.append(names[len(found)].decode())
    lib.CSLDestroy(names)
    return [f"/vsimem/rio-terrascope/{name}" for name in found if name.endswith("header")]
