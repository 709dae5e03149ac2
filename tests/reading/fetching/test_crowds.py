"""Kind to the server: Retry-After, and fewer requests at a time where it is in trouble."""

import itertools
import threading
import time
from email.utils import formatdate

import pytest
import rasterio

from raw_server import response
from rio_terrascope.reading.fetching import Fetcher, origin
from rio_terrascope.reading.fetching.throttle import Throttle

pytestmark = pytest.mark.usefixtures("quick")


def spread(count, start=0):
    return [(start + n * 2000, 50) for n in range(count)]


@pytest.mark.parametrize("counts", ["connections", "requests"])
def test_four_at_a_time(raw, fetch, fetcher, counts):
    """A server that allows four connections, or four requests, at a time, and answers 429 beyond."""
    lock, under_way = threading.Lock(), itertools.count()
    now = {"requests": 0}

    def answer(request, connection):
        with lock:
            now["requests"] += 1
            busy = server.open if counts == "connections" else now["requests"]
        time.sleep(0.005)
        with lock:
            now["requests"] -= 1
        next(under_way)
        return response(429) if busy > 4 else server.part(request)

    server = raw(answer)
    # to be refused while others succeed is not a reason to give up
    with rasterio.Env(GDAL_HTTP_MAX_RETRY=0 if counts == "requests" else 3, GDAL_HTTP_RETRY_DELAY=0.02):
        source = fetcher.open(server.url)
    fetcher.ask(source, [(0, 1000)])
    fetcher.connect(source, 15)
    assert fetcher.next(60).error is None
    found = fetch(source, *spread(140))
    assert all(one.error is None for one in found)
    refused = len(server.requests) - 141
    assert 0 < refused < 60


def test_retry_after_holds_for_the_origin(raw, fetch):
    times = []

    def answer(request, connection):
        times.append(time.monotonic())
        return response(503, Retry_After="1") if len(times) == 1 else server.part(request)

    server = raw(answer)
    with Fetcher(at_once=1) as one_by_one:
        found = fetch(server.url, *spread(5), by=one_by_one)
    assert all(one.error is None for one in found)
    assert times[1] - times[0] > 0.95
    assert len(times) == 6


def test_retry_after_as_a_date(raw, fetch):
    times = []

    def answer(request, connection):
        times.append(time.time())
        when = formatdate(times[0] + 2, usegmt=True)
        return response(429, Retry_After=when) if len(times) == 1 else server.part(request)

    server = raw(answer)
    assert fetch(server.url, (0, 10))[0].error is None
    assert times[1] >= int(times[0] + 2) - 0.1


def test_a_pause_that_is_too_long(raw, fetch):
    server = raw(lambda request, connection: response(503, Retry_After="3600"))
    (one,) = fetch(server.url, (0, 10))
    assert "response code: 503, and it wants to be asked again in 3600 s" in str(one.error)
    assert len(server.requests) == 1


def test_others_go_on_while_one_waits(raw, fetch, fetcher):
    """Retry-After of one server does not hold up another."""
    slow = raw(lambda request, connection: response(503, Retry_After="60"))
    quick = raw(lambda request, connection: quick.part(request))
    fetcher.ask(fetcher.open(slow.url), [(0, 10)])
    slow.wait_until(lambda s: s.requests)
    with Fetcher() as another:
        assert all(one.error is None for one in fetch(quick.url, *spread(20), by=another))


def test_resets_halve_what_is_under_way(raw, fetch, fetcher):
    most = []

    def answer(request, connection):
        if len(server.requests) <= 16:
            return None
        with server.changed:
            most.append(server.open)
        time.sleep(0.002)
        return server.part(request)

    server = raw(answer)
    assert all(one.error is None for one in fetch(server.url, *spread(100)))
    assert max(most[:20]) <= 9  # one that is just being closed


def test_one_file_in_trouble_ends_although_others_succeed(raw, fetch, monkeypatch):
    monkeypatch.setattr(Throttle, "trouble", lambda *_: None)  # always two at a time
    good = []

    def answer(request, connection):
        if "bad" not in request.path:
            good.append(request)
            return server.part(request)
        before = len(good)
        server.wait_until(lambda _: len(good) >= before + 2)  # so that others succeed
        return response(429)

    server = raw(answer)
    with Fetcher(at_once=2) as fetcher, Fetcher(at_once=1) as another:
        stop = threading.Event()

        def keep_busy():
            while not stop.is_set():
                another.ask(source, [(0, 10)] * 5)
                while another.waiting:
                    another.next(60)

        source = another.open(server.url)
        thread = threading.Thread(target=keep_busy)
        thread.start()
        (one,) = fetch(server.url + "?bad", (0, 10), by=fetcher)
        stop.set()
        thread.join()
    assert "response code: 429" in str(one.error)


def test_nothing_is_left_of_a_crowd(raw, fetch):
    """All counts are as before, after troubles of all kinds."""
    kinds = itertools.cycle([429, 503, 500, None, 404, 200])

    def answer(request, connection):
        kind = next(kinds)
        return server.part(request) if kind == 200 else None if kind is None else response(kind)

    server = raw(answer)
    fetch(server.url, *spread(100))
    (here,) = [one for key, one in origin._origins.items() if f":{key[2]}/" in server.url]
    with origin.lock():
        assert here._under_way == 0
        assert not here._running
        assert not here._waiting
        assert not here._late


def test_the_throttle_grows_slowly():
    throttle = Throttle()
    throttle.trouble(1, under_way=16, most=16)
    assert throttle.allowed == 8
    throttle.trouble(1, under_way=15, most=16)  # of the same burst
    assert throttle.allowed == 8
    for _ in range(8 * 4):
        throttle.success()
    assert throttle.allowed == 9
    throttle.trouble(float("inf"), under_way=9, most=16)
    assert throttle.allowed == 8
    for _ in range(8 * 8 - 1):
        throttle.success()
    assert throttle.allowed == 8
    for _ in range(9):
        throttle.trouble(float("inf"), under_way=1, most=16)
    assert throttle.allowed == 1
