"""A worker's login, with a desk that answers what a test wants."""

import asyncio
from types import SimpleNamespace

import pytest

from helpers import in_child
from rio_terrascope import Settings, TokenEndpointError
from rio_terrascope.distributed.worker import WorkerLogin

SETTINGS = Settings(token_url="http://127.0.0.1:9/token", origins=("http://127.0.0.1:9",))


class Desk:
    """A scheduler whose desk numbers its tokens from 1, and notes what it is asked."""

    def __init__(self, seconds_left=300.0):
        self.seconds_left = seconds_left
        self.asked = []

    async def terrascope_get(self, login, after, urgent):
        self.asked.append((after, urgent))
        return {
            "number": after + 1,
            "access_token": f"token-{after + 1}",
            "seconds_left": self.seconds_left,
            "abandoned": False,
        }


def on_a_worker(desk, work):
    """Open a worker's login in an event loop, call `work` with its env in a thread, and close it."""

    async def run():
        worker = SimpleNamespace(address="tcp://worker", scheduler=desk)
        reader = WorkerLogin("a-login", SETTINGS, {}, worker)
        await reader.open()
        try:
            await work(reader)
        finally:
            reader.close()

    asyncio.run(run())


def test_each_token_is_asked_for_by_the_number_of_the_last():
    desk = Desk()

    async def work(reader):
        assert (await asyncio.to_thread(reader._env.refresh)).access_token == "token-2"
        assert (await asyncio.to_thread(reader._env.refresh)).access_token == "token-3"

    on_a_worker(desk, work)
    assert desk.asked == [(0, False), (1, True), (2, True)], "a reader that needs one asks urgently"


def test_an_early_renewal_is_not_urgent(until):
    desk = Desk(seconds_left=0.4)

    async def work(reader):
        await asyncio.to_thread(until, lambda: desk.asked, lambda asked: len(asked) >= 3)

    on_a_worker(desk, work)
    assert desk.asked[:3] == [(0, False), (1, False), (2, False)]


def test_the_event_loop_cannot_wait_for_a_token():
    async def work(reader):
        with pytest.raises(TokenEndpointError, match=r"event loop cannot wait.*Next: read in a task"):
            reader._env.refresh()

    on_a_worker(Desk(), work)


def test_a_forked_child_gets_no_new_token():
    async def work(reader):
        def refresh():
            with pytest.raises(TokenEndpointError, match=r"forked child.*Next: read in the task itself"):
                reader._env.refresh()

        await asyncio.to_thread(in_child, refresh)

    on_a_worker(Desk(), work)


def test_a_worker_whose_access_was_taken_away_asks_no_more():
    desk = Desk()

    async def work(reader):
        tokens = reader._env.tokens
        reader.close()
        with pytest.raises(TokenEndpointError, match="no longer read: the plugin was unregistered"):
            await asyncio.to_thread(tokens.refresh)

    on_a_worker(desk, work)
    assert desk.asked == [(0, False)]
