"""The requests that the sandbox has recorded."""

from __future__ import annotations

import dataclasses
import time

import pytest
import requests

from rio_terrascope.sandbox import Request, Sandbox

from .conftest import CONTENT, login


def test_every_request_is_there_in_order(sandbox: Sandbox) -> None:
    before = time.time()
    token = login(sandbox)["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Range": "bytes=0-9", "X-Trace": "7"}
    requests.get(sandbox.url("?n=1"), headers=headers, timeout=10)
    requests.head(sandbox.other_url(), timeout=10)

    sso, data, other = sandbox.requests()
    assert [request.server for request in (sso, data, other)] == ["sso", "data", "other"]
    assert sso.number < data.number < other.number
    assert before <= sso.time <= data.time <= other.time <= time.time()
    assert (data.method, data.query, data.range, data.status, data.sent) == (
        "GET",
        "n=1",
        "bytes=0-9",
        206,
        10,
    )
    assert data.path == sandbox.url().removeprefix(sandbox.origin)
    assert data.headers["x-trace"] == "7"
    assert sandbox.requests("data") == [data]


def test_connections_are_told_apart(sandbox: Sandbox) -> None:
    with requests.Session() as session:
        for _ in range(2):
            session.get(sandbox.other_url(), timeout=10)
    requests.get(sandbox.other_url(), timeout=10)
    first, second, third = [request.connection for request in sandbox.requests()]
    assert first == second != third


def test_the_journal_can_be_cleared(sandbox: Sandbox) -> None:
    requests.get(sandbox.other_url(), timeout=10)
    number = sandbox.requests()[0].number
    sandbox.clear()
    assert sandbox.requests() == []
    requests.get(sandbox.other_url(), timeout=10)
    assert sandbox.requests()[0].number == number + 1


def test_a_repr_shows_no_secret(sandbox: Sandbox) -> None:
    token = login(sandbox)
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    requests.get(sandbox.url("?token=in-the-query"), headers=headers, timeout=10)
    shown = repr(sandbox.requests()) + repr(sandbox)
    for secret in [token["access_token"], token["refresh_token"], sandbox.password, "in-the-query"]:
        assert secret not in shown


def test_a_request_cannot_be_changed(sandbox: Sandbox) -> None:
    requests.get(sandbox.other_url(), timeout=10)
    request = sandbox.requests()[0]
    assert isinstance(request, Request)
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.status = 500  # type: ignore[misc]


def test_wait_for(sandbox: Sandbox) -> None:
    requests.get(sandbox.other_url(), timeout=10)
    (request,) = sandbox.wait_for(lambda seen: any(request.sent == len(CONTENT) for request in seen))
    assert request.server == "other"
    with pytest.raises(TimeoutError):
        sandbox.wait_for(len, 0.05, server="sso")


def test_take_discards_what_it_returns(sandbox: Sandbox) -> None:
    requests.head(sandbox.other_url(), timeout=10)
    (taken,) = sandbox.take()
    assert taken.server == "other"
    assert sandbox.take() == sandbox.requests() == []
