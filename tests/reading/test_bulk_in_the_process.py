"""Bulk reads that are stopped, forked, shared by threads, or outlive their block."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from helpers import in_child, tokens_sent
from raw_server import RawServer
from rio_terrascope import TerrascopeError, read_bbox, read_windows, sample, terrascope_env
from rio_terrascope.reading.fetching import Fetcher, origin

BLOCKS = [Window(256 * (n % 8), 256 * (n // 8), 256, 256) for n in range(0, 64, 2)]  # of `noise`; none touch
HEADER, FIRST_BLOCK = 1, 2000  # offsets behind the beginning of each
MOST = 16  # connections
BACK = 0.5  # seconds until the caller must be back


@pytest.fixture(scope="module")
def pixels(noise):
    with rasterio.open(noise) as dataset:
        return dataset.read(1)


def assert_right(arrays, pixels, windows=BLOCKS):
    for array, window in zip(arrays, windows, strict=True):
        np.testing.assert_array_equal(array[0], pixels[window.toslices()])


@contextlib.contextmanager
def stuck_after(offset, file):
    """A server that keeps requests from some offset on waiting, until their connections end."""

    def answer(request, connection):
        if request.first < offset:
            return server.part(request)
        connection.recv(1)
        return None

    with RawServer(answer, file.read_bytes()) as server:
        yield server


def is_quiet_after(server, count):
    """Wait until all connections are closed. Nothing more was asked for."""
    server.wait_until(lambda s: s.open == 0)
    assert len(server.requests) == count


WAYS = {
    "read_windows": lambda url: list(read_windows([(url, window) for window in BLOCKS])),
    "sample": lambda url: sample(url, [(w.col_off / 256 + 0.5, 7.5 - w.row_off / 256) for w in BLOCKS]),
    "read_bbox": lambda url: read_bbox(url, (0.2, 0.2, 7.8, 7.8)),
}


def interrupt_when(server, condition, sent):
    """In a thread: send this process Ctrl-C, and note when."""

    def interrupt():
        server.wait_until(condition)
        sent.append(time.monotonic())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals of POSIX")
@pytest.mark.parametrize("stage", ["header", "blocks"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_ctrl_c_while_the_server_hangs(noise, monkeypatch, way, stage):
    monkeypatch.setattr(origin, "IDLE_SECONDS", 0.1)  # connections that were not needed stay for so long
    offset, asked = (0, 1) if stage == "header" else (HEADER, 3)
    sent = []
    with stuck_after(offset, noise) as server:
        interrupt_when(server, lambda s: len(s.requests) >= asked, sent)
        with pytest.raises(KeyboardInterrupt):
            way(server.url)
        assert time.monotonic() - sent[0] < BACK
        server.wait_until(lambda s: s.open == 0)
        assert len(server.requests) <= 1 + MOST


@pytest.mark.parametrize("how", ["close", "an exception", "forgotten"])
def test_an_iterator_that_is_closed_while_the_server_hangs(noise, pixels, how):
    with stuck_after(FIRST_BLOCK, noise) as server:
        arrays = read_windows([(server.url, window) for window in BLOCKS])
        assert_right([next(arrays)], pixels, BLOCKS[:1])
        server.wait_until(lambda s: len(s.requests) == 2 + MOST)
        begin = time.monotonic()
        if how == "close":
            arrays.close()
        elif how == "an exception":
            with pytest.raises(ZeroDivisionError):
                arrays.throw(ZeroDivisionError)
        else:
            del arrays
        assert time.monotonic() - begin < BACK
        is_quiet_after(server, 2 + MOST)


def test_progress_that_raises_stops_all(noise):
    def progress(done, total):
        raise ZeroDivisionError

    with stuck_after(FIRST_BLOCK, noise) as server:
        with pytest.raises(ZeroDivisionError):
            list(read_windows([(server.url, window) for window in BLOCKS], progress=progress))
        server.wait_until(lambda s: s.open == 0)
        assert len(server.requests) <= 2 + MOST


@pytest.mark.parametrize("scope", ["origins", "env"])
def test_a_block_that_is_left_while_windows_are_read(sandbox, noise, pixels, scope):
    """What has come is right, and the rest is an error: no more is asked for with the token."""
    url = sandbox.add_file(noise, "noise.tif")
    with terrascope_env(scope=scope):
        sandbox.hang(times=None, skip=2)  # after the header and a block
        arrays = read_windows([(url, window) for window in BLOCKS], max_workers=1)
        seen = [next(arrays)]
        sandbox.wait_for(lambda requests: sum(r.server == "data" for r in requests) == 3)
        begin = time.monotonic()
    assert time.monotonic() - begin < BACK
    sandbox.heal()
    sandbox.clear()
    with pytest.raises((RasterioIOError, TerrascopeError)):
        seen.extend(arrays)
    assert_right(seen, pixels, BLOCKS[: len(seen)])
    # the one that was under way, if it is sent again over another connection
    assert len(sandbox.requests("data")) <= 1
    with terrascope_env(scope=scope):
        assert_right(read_windows([(url, window) for window in BLOCKS]), pixels)


def in_steps(url, steps):
    """Open a generator, and take so many of its arrays."""
    arrays = read_windows([(url, window) for window in BLOCKS], max_workers=4)
    return arrays, [next(arrays) for _ in range(steps)]


forks = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning"),
]


@pytest.mark.parametrize("what", [pytest.param(what, marks=forks) for what in ("goes on", "anew", "closes")])
def test_forking_while_windows_are_read(sandbox, noise, pixels, what):
    url = sandbox.add_file(noise, "noise.tif")
    windows = [(url, window) for window in BLOCKS]
    with terrascope_env():
        arrays, seen = in_steps(url, 3)

        def in_the_child():
            os.environ["GDAL_HTTP_USERAGENT"] = "child"
            if what == "goes on":
                assert_right(arrays, pixels, BLOCKS[3:])
            elif what == "closes":
                arrays.close()
            assert_right(read_windows(windows), pixels)

        mine = {request.connection for request in sandbox.take()}
        in_child(in_the_child, seconds=30)
        later = sandbox.take()
        childs = {request.connection for request in later if request.headers["user-agent"] == "child"}
        seen.extend(arrays)
    assert_right(seen, pixels)
    # the last requests of the child may be noted after it has ended
    last = [request for request in sandbox.requests("data") if request.headers["user-agent"] != "child"]
    assert childs
    assert not childs & (mine | {request.connection for request in last})


@forks[0]
@forks[1]
def test_a_childs_threads_may_be_faster_than_the_child(sandbox, noise, pixels, monkeypatch):
    """They have read what the parent had fetched before the child waits for it."""
    url = sandbox.add_file(noise, "noise.tif")
    with terrascope_env():
        arrays, _ = in_steps(url, 3)

        def in_the_child():
            wait = Fetcher.next
            monkeypatch.setattr(Fetcher, "next", lambda *a, **o: time.sleep(0.1) or wait(*a, **o))
            assert_right(arrays, pixels, BLOCKS[3:])

        in_child(in_the_child, seconds=30)
        arrays.close()


EXIT = """
import sys
from rasterio.windows import Window
from rio_terrascope import read_windows
arrays = read_windows([(sys.argv[1], Window(256 * n, 0, 256, 256)) for n in range(0, 8, 2)])
print(next(arrays).shape, flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["", "sys.exit(3)", "raise ZeroDivisionError"])
def test_python_ends_while_a_generator_is_open(noise, then):
    with stuck_after(FIRST_BLOCK, noise) as server:
        done = subprocess.run(
            [sys.executable, "-c", EXIT.format(then=then), server.url],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        server.wait_until(lambda s: s.open == 0)
    assert done.stdout == "(1, 256, 256)\n"
    assert done.returncode == {"": 0, "sys.exit(3)": 3}.get(then, 1)
    assert ("Traceback" in done.stderr) == ("Zero" in then)
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("most", [3, 16])
def test_threads_share_the_connections(sandbox, noise, pixels, in_threads, monkeypatch, most):
    monkeypatch.setenv("TERRASCOPE_MAX_CONNECTIONS", str(most))
    url = sandbox.add_file(noise, "noise.tif")
    sandbox.latency(0.01)
    begun = threading.Barrier(2)

    def read():
        begun.wait(20)
        assert_right(read_windows([(url, window) for window in BLOCKS]), pixels)

    with terrascope_env():
        in_threads(read, read)
    connections = {request.connection for request in sandbox.requests("data")}
    assert 1 < len(connections) <= most
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


@pytest.mark.parametrize("trouble", ["failed", "cut short", "reset"])
@pytest.mark.parametrize("how", ["Env", "variable"])
def test_threads_of_gdal_make_no_zeros(sandbox, noise, pixels, monkeypatch, how, trouble):
    """GDAL's own threads turn blocks that do not come into zeros."""
    url = sandbox.add_file(noise, "noise.tif")
    everything = Window(0, 0, 2048, 2048)
    if how == "variable":
        monkeypatch.setenv("GDAL_NUM_THREADS", "ALL_CPUS")
    more = {"GDAL_NUM_THREADS": "ALL_CPUS"} if how == "Env" else {}
    right = 0
    with terrascope_env(GDAL_HTTP_MAX_RETRY=0), rasterio.Env(**more):
        for skip in range(6):
            if trouble == "failed":
                sandbox.fail(500, skip=skip)
            elif trouble == "cut short":
                sandbox.truncate(after=1000, skip=skip)
            else:
                sandbox.reset(after=1000, skip=skip)
            with contextlib.suppress(RasterioIOError):
                (array,) = read_windows([(url, everything)])
                np.testing.assert_array_equal(array[0], pixels)
                right += 1
            sandbox.heal()
        assert right < 6, "no read met the trouble"
        assert_right(read_windows([(url, everything)]), pixels, [everything])


@pytest.mark.parametrize("where", ["outside", "origins", "env"])
def test_a_public_url_needs_no_block_and_gets_no_token(sandbox, noise, pixels, where):
    sandbox.add_file(noise, "noise.tif")
    url = sandbox.other_url("noise.tif")
    with contextlib.nullcontext() if where == "outside" else terrascope_env(scope=where):
        assert_right(read_windows([(url, window) for window in BLOCKS]), pixels)
        array, profile = read_bbox(url, (1, 1, 3, 3))
        points = [(x + 0.5, y + 0.5) for x in range(8) for y in range(8)]
        values = sample(url, points)
    np.testing.assert_array_equal(array[0], pixels[1280:1792, 256:768])
    assert profile["crs"] == rasterio.CRS.from_epsg(4326)
    columns, rows = (np.array(points) * (256, -256) + (0, 2048)).astype(int).T
    np.testing.assert_array_equal(values.data[:, 0], pixels[rows, columns])
    assert tokens_sent(sandbox.requests("other")) == {"none"}
    assert sandbox.requests("data") == []


def test_a_protected_url_in_scope_env(sandbox, noise, pixels):
    url = sandbox.add_file(noise, "noise.tif")
    with terrascope_env(scope="env"):
        assert_right(read_windows([(url, window) for window in BLOCKS]), pixels)
        np.testing.assert_array_equal(read_bbox(url, (1, 1, 3, 3))[0][0], pixels[1280:1792, 256:768])
        assert sample(url, [(4.5, 4.5)])[0, 0] == pixels[896, 1152]
    assert tokens_sent(sandbox.requests("data")) == {"valid"}
