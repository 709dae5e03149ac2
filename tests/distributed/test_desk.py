"""The scheduler's side: the desk, called as clients and workers call it."""

import asyncio
from types import SimpleNamespace

import pytest

from rio_terrascope.distributed import TokenDesk, desk
from rio_terrascope.secret import Secret


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setattr(desk, "WAIT_SECONDS", 0.2)


async def opened():
    """Return an open desk. Its `events` are those that the scheduler has sent to clients."""
    tokens = TokenDesk()
    tokens.events = []
    await tokens.start(
        SimpleNamespace(handlers={}, worker_plugins={}, log_event=lambda *event: tokens.events.append(event))
    )
    return tokens


async def put(tokens, number, *, seconds_left=300.0, in_use=False):
    return await tokens.put("a-login", number, "a-client", Secret(f"token-{number}"), seconds_left, in_use)


def test_a_worker_gets_a_later_token_at_once_or_waits_for_it():
    async def work():
        tokens = await opened()
        await put(tokens, 1)
        assert (await tokens.get("a-login", 0, False))["access_token"].data.reveal() == "token-1"
        waiting = asyncio.ensure_future(tokens.get("a-login", 1, False))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await put(tokens, 2)
        assert (await waiting)["number"] == 2
        await put(tokens, 1)  # delayed on its way
        assert (await tokens.get("a-login", 1, False))["number"] == 2

    asyncio.run(work())


def test_the_client_is_asked_once_for_the_next_token():
    async def work():
        tokens = await opened()
        await put(tokens, 1)
        await asyncio.gather(*(tokens.get("a-login", 1, False) for _ in range(3)))
        assert tokens.events == []
        await asyncio.gather(*(tokens.get("a-login", 1, True) for _ in range(3)))
        assert [message for _, message in tokens.events] == [{"action": "renew", "number": 1}]
        await put(tokens, 2)
        assert (await tokens.get("a-login", 1, True))["number"] == 2
        assert len(tokens.events) == 1, "the token was there already"

    asyncio.run(work())


def test_an_expired_token_is_not_handed_on():
    async def work():
        tokens = await opened()
        await put(tokens, 1, seconds_left=-1.0)
        assert await tokens.get("a-login", 0, False) == {"abandoned": False}

    asyncio.run(work())


@pytest.mark.parametrize("leave", ["end", "remove_client"])
def test_nobody_waits_for_a_client_that_is_gone(leave):
    async def work():
        tokens = await opened()
        await put(tokens, 1)
        waiting = asyncio.ensure_future(tokens.get("a-login", 1, False))
        await asyncio.sleep(0.05)
        if leave == "end":
            await tokens.end("a-login")
        else:
            tokens.remove_client(None, "a-client")
        async with asyncio.timeout(0.1):
            assert (await waiting)["abandoned"]
        still_valid = await tokens.get("a-login", 0, False)
        assert still_valid["access_token"].data.reveal() == "token-1"
        await put(tokens, 2)
        assert not (await tokens.get("a-login", 1, False))["abandoned"]

    asyncio.run(work())


def test_a_client_hears_when_its_login_is_no_longer_in_use():
    async def work():
        tokens = await opened()
        assert await put(tokens, 1), "the plugin is about to be registered"
        tokens._scheduler.worker_plugins["ours"] = b"... a-login ..."
        assert await put(tokens, 2)
        del tokens._scheduler.worker_plugins["ours"]
        assert not await put(tokens, 3)

    asyncio.run(work())
