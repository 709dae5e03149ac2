"""Each range comes back once, in few requests and over few connections."""

import threading
import time

import pytest
from rasterio.errors import RasterioIOError

from rio_terrascope import SettingsError, terrascope_env
from rio_terrascope.reading.fetching import Fetcher


@pytest.fixture
def bytes_of(tiles):
    content = tiles[0].read_bytes()
    return lambda one: content[one.offset : one.offset + one.length]


def spread(count, length=100, start=40_000, step=3000):
    return [(start + n * step, length) for n in range(count)]


def test_the_first_answer_brings_the_size(env, sandbox, fetcher, fetch, bytes_of, tiles):
    source = fetcher.open(sandbox.url())
    assert source.size is None
    (first,) = fetch(source, (0, 32768))
    assert first.data == bytes_of(first)
    assert source.size == tiles[0].stat().st_size
    assert len(sandbox.requests("data")) == 1


def test_each_range_comes_once(env, sandbox, fetcher, fetch, bytes_of):
    ranges = spread(200)
    found = fetch(sandbox.url(), *ranges)
    assert [(one.offset, one.length) for one in found] == ranges
    assert all(one.data == bytes_of(one) and one.error is None for one in found)
    assert len({request.connection for request in sandbox.requests("data")}) <= 16


def test_neighbours_share_a_request(env, sandbox, fetch, bytes_of):
    ranges = [(0, 100), (100, 50), (1174, 10), (5000, 10), (5000, 10), (5005, 20), (9000, 0)]
    found = fetch(sandbox.url(), *ranges)
    assert sorted(ranges) == [(one.offset, one.length) for one in found]
    assert all(one.data == bytes_of(one) for one in found)
    assert sorted(r.range for r in sandbox.requests("data")) == ["bytes=0-1183", "bytes=5000-5024"]


def test_joined_requests_have_an_end(env, sandbox, fetch, bytes_of):
    found = fetch(sandbox.url(), *[(n * 100_000, 100_000) for n in range(15)])
    assert all(one.data == bytes_of(one) for one in found)
    assert len(sandbox.requests("data")) == 3


def test_a_range_beyond_the_end_is_cut_and_one_behind_it_fails(env, sandbox, fetcher, fetch, tiles):
    source = fetcher.open(sandbox.url())
    size = tiles[0].stat().st_size
    (last,) = fetch(source, (size - 10, 100))
    assert last.data == tiles[0].read_bytes()[-10:]
    (behind,) = fetch(source, (size + 10, 100))
    assert isinstance(behind.error, RasterioIOError)


def test_open_and_ask_return_at_once_and_next_can_time_out(env, sandbox, fetcher):
    sandbox.hang(None)
    source = fetcher.open(sandbox.url())
    fetcher.ask(source, spread(3))
    assert fetcher.waiting == 3
    with pytest.raises(TimeoutError):
        fetcher.next(0.01)
    assert fetcher.waiting == 3
    assert "3 ranges" in repr(fetcher)


def test_things_of_the_callers_come_in_their_turn(fetcher):
    thing = object()
    fetcher.put(thing)
    assert fetcher.next() is thing


def test_at_once_limits_a_fetcher(env, sandbox, fetch):
    sandbox.latency(0.02)
    with Fetcher(at_once=3) as few:
        fetch(sandbox.url(), *spread(30), by=few)
    assert len({request.connection for request in sandbox.requests("data")}) <= 3
    with pytest.raises(ValueError, match="at least 1"):
        Fetcher(at_once=0)


def test_the_limit_of_connections_holds_for_all_fetchers_together(sandbox, monkeypatch, in_threads):
    monkeypatch.setenv("TERRASCOPE_MAX_CONNECTIONS", "5")
    sandbox.latency(0.01)

    def read():
        with Fetcher() as fetcher:
            source = fetcher.open(sandbox.url())
            fetcher.connect(source, 16)
            fetcher.ask(source, spread(30))
            while fetcher.waiting:
                assert fetcher.next(60).error is None

    with terrascope_env():
        in_threads(*[read] * 4)
    assert len({request.connection for request in sandbox.requests("data")}) <= 5


def test_a_limit_that_is_none(monkeypatch, fetcher):
    monkeypatch.setenv("TERRASCOPE_MAX_CONNECTIONS", "many")
    with pytest.raises(SettingsError, match="TERRASCOPE_MAX_CONNECTIONS is 'many'"):
        fetcher.open("https://open.example/a.tif")


def test_fetchers_take_turns(raw, fetch):
    """A few ranges do not wait until another's thousand are through."""
    served = []
    goes_on = threading.Event()

    def answer(request, connection):
        goes_on.wait(60)
        served.append(request.path)
        return server.part(request)

    server = raw(answer)
    with Fetcher() as many, Fetcher() as few:
        many.ask(many.open(server.url), spread(200, length=10, step=1100, start=0))
        server.wait_until(lambda s: len(s.requests) == 16)
        few.ask(few.open(server.url + "?few"), spread(5))
        goes_on.set()
        for _ in range(5):
            assert few.next(60).error is None
        assert sum("few" not in path for path in served) < 150
        while many.waiting:
            assert many.next(60).error is None


def test_connections_open_while_the_header_is_on_its_way(raw, fetcher):
    goes_on = threading.Event()

    def answer(request, connection):
        goes_on.wait(60)
        return server.part(request)

    server = raw(answer)
    source = fetcher.open(server.url)
    fetcher.ask(source, [(0, 32768)])
    fetcher.connect(source, 7)
    # the first range may take one that was opened for the others
    server.wait_until(lambda s: s.connections >= 7)
    goes_on.set()
    assert fetcher.next(60).error is None
    fetcher.ask(source, spread(8, step=8000))
    while fetcher.waiting:
        assert fetcher.next(60).error is None
    assert server.connections <= 8


def test_a_slow_caller_slows_the_requests_down(raw, fetcher):
    server = raw(lambda request, connection: server.part(request), content=bytes(4 * 2**20))
    source = fetcher.open(server.url)
    fetcher.ask(source, [(0, 100)])
    fetcher.next(60)
    for _ in range(30):  # 120 MB
        fetcher.ask(source, [(0, 4 * 2**20)])
    server.wait_until(lambda s: len(s.requests) > 8)
    deadline = time.monotonic() + 60
    while fetcher._unread < 32 * 2**20 or fetcher.under_way:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(server.requests) <= 1 + 8 + 16
    while fetcher.waiting:
        assert fetcher.next(60).error is None
    assert len(server.requests) == 31
