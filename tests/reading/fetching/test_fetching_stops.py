"""The caller comes back at once, whatever the server does, and nothing more is sent."""

import signal
import subprocess
import sys
import threading
import time

import pytest
import rasterio
from rasterio.errors import RasterioIOError

from raw_server import deaf, trickle
from rio_terrascope.reading.fetching import Fetcher, origin

SCRIPT = """
import sys, threading
from rio_terrascope.reading.fetching import Fetcher
fetcher = Fetcher()
source = fetcher.open(sys.argv[1])
fetcher.ask(source, [(n * 2000, 100) for n in range(40)])
print("asked", flush=True)
{then}
"""


def hanging(kind, server):
    def answer(request, connection):
        head, _, body = server.part(request).partition(b"\r\n\r\n")
        if kind == "trickling":
            trickle(connection, head + b"\r\n\r\n" + body, 0.01, server.ended)
        elif kind == "trickling body":
            connection.sendall(head + b"\r\n\r\n")
            trickle(connection, body, 0.01, server.ended)
        else:
            connection.sendall(head + b"\r\n\r\n" + body[:10] if kind == "hanging body" else b"")
            connection.recv(1)  # until the other side closes the connection

    return answer


@pytest.mark.parametrize("kind", ["hanging", "hanging body", "trickling", "trickling body"])
def test_leaving_ends_what_is_under_way(raw, kind):
    server = raw(None)
    server.answer = hanging(kind, server)
    with Fetcher() as fetcher:
        source = fetcher.open(server.url)
        # those that trickle would last for half a minute
        fetcher.ask(source, [(n * 4000, 2900) for n in range(40)])
        fetcher.connect(source, 5)
        server.wait_until(lambda s: len(s.requests) == 16)
        begin = time.monotonic()
    assert time.monotonic() - begin < 0.4
    server.wait_until(lambda s: s.open == 0)
    assert len(server.requests) == 16
    assert fetcher.waiting == 0


def test_leaving_while_connections_hang():
    with deaf() as url:
        with Fetcher() as fetcher:
            source = fetcher.open(url)
            fetcher.ask(source, [(0, 100)])
            fetcher.connect(source, 5)
            with pytest.raises(TimeoutError):
                fetcher.next(0.1)
            begin = time.monotonic()
        assert time.monotonic() - begin < 0.4


def test_others_go_on_when_one_stops(raw, fetch):
    goes_on = threading.Event()

    def answer(request, connection):
        if "slow" in request.path:
            goes_on.wait(60)
        return server.part(request)

    server = raw(answer)
    with Fetcher(at_once=4) as slow, Fetcher() as quick:
        slow.ask(slow.open(server.url + "?slow"), [(n * 2000, 100) for n in range(40)])
        server.wait_until(lambda s: len(s.requests) == 4)
        quick.ask(quick.open(server.url), [(n * 2000, 100) for n in range(100)])
        slow.close()
        while quick.waiting:
            assert quick.next(60).error is None
        goes_on.set()
    assert sum("slow" in request.path for request in server.requests) == 4


@pytest.mark.parametrize("where", ["next", "a busy loop"])
def test_ctrl_c(raw, where):
    server = raw(None)
    server.answer = hanging("hanging body", server)
    then = "fetcher.next()" if where == "next" else "while True: pass"
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(then=then), server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"asked\n"
        server.wait_until(lambda s: s.requests)
        time.sleep(0.2)  # it is where it waits by then
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        killing = threading.Timer(20, process.kill)
        killing.start()
        _, said = process.communicate()
        killing.cancel()
    assert b"KeyboardInterrupt" in said
    assert time.monotonic() - begin < 5


def test_python_ends_while_requests_hang(raw):
    server = raw(None)
    server.answer = hanging("hanging body", server)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(then=""), server.url],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""


def test_asking_while_python_ends():
    script = "import atexit; atexit.register(lambda: (fetcher.ask(source, [(0, 10)]), fetcher.close()))"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(then=script), "http://127.0.0.1:9/a.tif"],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0


def test_signals_at_any_step_leave_no_lock_behind(raw):
    """Ctrl-C comes at some step of open, ask, next or close, 300 times."""
    server = raw(lambda request, connection: server.part(request))
    rounds = interrupted = 0
    is_armed = False

    def interrupt(signum, frame):
        if is_armed:  # one that comes late would end the tests
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    while interrupted < 300:
        rounds += 1
        fetcher = Fetcher()
        is_armed = True
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + (rounds * 7919 % 3000) / 1e6)
            with fetcher:
                source = fetcher.open(server.url)
                fetcher.ask(source, [(n * 2000, 100) for n in range(8)])
                fetcher.connect(source, 2)
                while fetcher.waiting:
                    fetcher.next(20)
            is_armed = False
        except KeyboardInterrupt:
            is_armed = False
            interrupted += 1
            fetcher.close()
    signal.signal(signal.SIGALRM, before)
    with Fetcher() as fetcher:
        fetcher.ask(fetcher.open(server.url), [(n * 2000, 100) for n in range(50)])
        while fetcher.waiting:
            assert fetcher.next(60).error is None
        (here,) = [one for key, one in origin._origins.items() if f":{key[2]}/" in server.url]
    deadline = time.monotonic() + 20
    while here._under_way and time.monotonic() < deadline:
        time.sleep(0.01)
    assert here._under_way == 0


def test_idle_connections_are_closed(raw, fetch, monkeypatch):
    monkeypatch.setattr(origin, "IDLE_SECONDS", 0.05)
    server = raw(lambda request, connection: server.part(request))
    fetch(server.url, *[(n * 2000, 100) for n in range(40)])
    server.wait_until(lambda s: s.open == 0)


@pytest.mark.parametrize(
    "options",
    [
        {"GDAL_HTTP_LOW_SPEED_TIME": 0.2, "GDAL_HTTP_LOW_SPEED_LIMIT": 1000},
        {"GDAL_HTTP_TIMEOUT": 0.3, "GDAL_HTTP_LOW_SPEED_TIME": 0.2, "GDAL_HTTP_LOW_SPEED_LIMIT": 1},
    ],
)
@pytest.mark.parametrize("kind", ["hanging", "hanging body", "trickling", "trickling body"])
def test_slow_servers_are_given_up(raw, fetch, kind, options):
    server = raw(None)
    server.answer = hanging(kind, server)
    with rasterio.Env(GDAL_HTTP_MAX_RETRY=1, GDAL_HTTP_RETRY_DELAY=0.01, **options):
        (one,) = fetch(server.url, (0, 2000))
    assert isinstance(one.error, RasterioIOError)
    assert "no answer: it took too long" in str(one.error)
    assert len(server.requests) == 2


def test_servers_that_do_not_accept_are_given_up(fetch):
    options = {"GDAL_HTTP_CONNECTTIMEOUT": 0.2, "GDAL_HTTP_MAX_RETRY": 1, "GDAL_HTTP_RETRY_DELAY": 0.01}
    with deaf() as url, rasterio.Env(**options):
        (one,) = fetch(url, (0, 100))
    assert "it took too long" in str(one.error)


def test_a_steady_server_is_not_given_up(raw, fetch):
    """It is slow, but not slower than the limit."""

    def answer(request, connection):
        trickle(connection, server.part(request), 0.002, server.ended)
        return b""

    server = raw(answer)
    with rasterio.Env(GDAL_HTTP_LOW_SPEED_TIME=0.2, GDAL_HTTP_LOW_SPEED_LIMIT=10):
        assert fetch(server.url, (0, 300))[0].error is None
    assert len(server.requests) == 1
