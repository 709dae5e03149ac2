"""Forked children make connections of their own, and their parents keep theirs."""

import os
import threading

import pytest

from helpers import in_child, tokens_sent
from rio_terrascope import terrascope_env
from rio_terrascope.reading.fetching import Fetcher

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning"),
]

RANGES = [(n * 3000, 100) for n in range(60)]


def fetch_all(fetcher, source, content):
    fetcher.ask(source, RANGES)
    while fetcher.waiting:
        one = fetcher.next(30)
        if one.error is not None:
            raise one.error
        assert one.data == content[one.offset : one.offset + one.length]


def test_a_child_has_its_own_connections(env, sandbox, fetcher, tiles):
    content = tiles[0].read_bytes()
    source = fetcher.open(sandbox.url())
    fetch_all(fetcher, source, content)
    mine = {request.connection for request in sandbox.take()}
    in_child(lambda: fetch_all(fetcher, source, content))
    childs = {request.connection for request in sandbox.take()}
    assert childs
    assert not mine & childs
    fetch_all(fetcher, source, content)
    again = {request.connection for request in sandbox.requests("data")}
    assert again & mine
    assert not again & childs
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


def test_a_child_asks_again_for_what_its_parent_waits_for(raw):
    goes_on = threading.Event()

    def answer(request, connection):
        goes_on.wait(60)
        return server.part(request)

    server = raw(answer)

    def all_come():
        while fetcher.waiting:
            one = fetcher.next(30)
            assert one.data == server.content[one.offset : one.offset + one.length]

    def go_on():
        server.wait_until(lambda s: len(s.requests) > 16)
        goes_on.set()

    with Fetcher() as fetcher:
        fetcher.ask(fetcher.open(server.url), RANGES)
        server.wait_until(lambda s: len(s.requests) == 16)
        in_child(all_come, in_parent=go_on)
        all_come()


@pytest.mark.parametrize("number", range(3))
def test_forks_while_others_fetch(sandbox, tiles, number):
    content = tiles[0].read_bytes()
    stop = threading.Event()
    errors = []

    def keep_fetching():
        try:
            with Fetcher() as fetcher:
                source = fetcher.open(sandbox.url())
                while not stop.is_set():
                    fetch_all(fetcher, source, content)
        except Exception as error:
            errors.append(error)

    def in_a_child():
        with Fetcher() as fetcher:
            fetch_all(fetcher, fetcher.open(sandbox.url()), content)

    with terrascope_env():
        threads = [threading.Thread(target=keep_fetching) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            in_child(in_a_child)
        stop.set()
        for thread in threads:
            thread.join(60)
    assert errors == []


def test_a_child_that_only_leaves(env, sandbox, fetcher, tiles):
    """Leaving the parent's fetcher in a child ends nothing of the parent's."""
    sandbox.latency(0.05)
    fetcher.ask(fetcher.open(sandbox.url()), RANGES)
    in_child(fetcher.close)
    while fetcher.waiting:
        assert fetcher.next(30).error is None
    assert all(request.status == 206 for request in sandbox.requests("data"))
