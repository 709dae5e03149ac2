"""The worker's side, with a fake scheduler."""

import asyncio
from types import SimpleNamespace

import pytest

from helpers import in_child
from rio_terrascope import Settings, TokenEndpointError
from rio_terrascope.distributed.worker import WorkerLogin
from rio_terrascope.secret import Secret

SETTINGS = Settings(token_url="http://127.0.0.1:9/token", origins=("http://127.0.0.1:9",))


class Desk:
    """A scheduler that has a new token for each request, numbered from 1, and records the requests."""

    def __init__(self, seconds_left=300.0):
        self.seconds_left = seconds_left
        self.asked = []

    async def terrascope_get(self, login, after, urgent):
        self.asked.append((after, urgent))
        return {
            "number": after + 1,
            "access_token": Secret(f"token-{after + 1}"),
            "seconds_left": self.seconds_left,
            "abandoned": False,
        }


def on_a_worker(desk, work):
    """Open a worker's login in an event loop, await `work` with it, and close it."""

    async def run():
        worker = SimpleNamespace(address="tcp://worker", scheduler=desk)
        login = WorkerLogin("a-login", SETTINGS, {}, worker)
        await login.open()
        try:
            await work(login)
        finally:
            login.close()

    asyncio.run(run())


def test_each_token_is_asked_for_by_the_number_of_the_last():
    desk = Desk()

    async def work(login):
        assert (await asyncio.to_thread(login._env.refresh)).access_token == "token-2"
        assert (await asyncio.to_thread(login._env.refresh)).access_token == "token-3"

    on_a_worker(desk, work)
    assert desk.asked == [(0, False), (1, True), (2, True)], "a reader waits, so it is urgent"


def test_an_early_renewal_is_not_urgent(until):
    desk = Desk(seconds_left=0.4)

    async def work(login):
        await asyncio.to_thread(until, lambda: desk.asked, lambda asked: len(asked) >= 3)

    on_a_worker(desk, work)
    assert desk.asked[:3] == [(0, False), (1, False), (2, False)]


def test_the_event_loop_cannot_wait_for_a_token():
    async def work(login):
        with pytest.raises(TokenEndpointError, match=r"event loop cannot wait.*Next: read in a task"):
            login._env.refresh()

    on_a_worker(Desk(), work)


def test_a_forked_child_gets_no_new_token():
    async def work(login):
        def refresh():
            with pytest.raises(TokenEndpointError, match=r"forked child.*Next: read in the task itself"):
                login._env.refresh()

        await asyncio.to_thread(in_child, refresh)

    on_a_worker(Desk(), work)


def test_a_closed_login_makes_no_request():
    desk = Desk()

    async def work(login):
        tokens = login._env.tokens
        login.close()
        with pytest.raises(TokenEndpointError, match="no longer read: the plugin was unregistered"):
            await asyncio.to_thread(tokens.refresh)

    on_a_worker(desk, work)
    assert desk.asked == [(0, False)]
