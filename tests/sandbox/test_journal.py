"""The requests that the sandbox has recorded."""

from __future__ import annotations

import dataclasses
import time

import pytest
import requests

from rio_terrascope.sandbox import Request, Sandbox

from .conftest import CONTENT, login


def test_every_request_is_there_in_order(bare: Sandbox) -> None:
    before = time.time()
    token = login(bare)["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Range": "bytes=0-9", "X-Trace": "7"}
    requests.get(bare.url("?n=1"), headers=headers, timeout=10)
    requests.head(bare.other_url(), timeout=10)

    sso, data, other = bare.requests()
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
    assert data.path == bare.url().removeprefix(bare.origin)
    assert data.headers["x-trace"] == "7"
    assert bare.requests("data") == [data]


def test_connections_are_told_apart(bare: Sandbox) -> None:
    with requests.Session() as session:
        for _ in range(2):
            session.get(bare.other_url(), timeout=10)
    requests.get(bare.other_url(), timeout=10)
    first, second, third = [request.connection for request in bare.requests()]
    assert first == second != third


def test_the_journal_can_be_cleared(bare: Sandbox) -> None:
    requests.get(bare.other_url(), timeout=10)
    number = bare.requests()[0].number
    bare.clear()
    assert bare.requests() == []
    requests.get(bare.other_url(), timeout=10)
    assert bare.requests()[0].number == number + 1


def test_a_repr_shows_no_secret(bare: Sandbox) -> None:
    token = login(bare)
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    requests.get(bare.url("?token=in-the-query"), headers=headers, timeout=10)
    shown = repr(bare.requests()) + repr(bare)
    for secret in [token["access_token"], token["refresh_token"], bare.password, "in-the-query"]:
        assert secret not in shown


def test_a_request_cannot_be_changed(bare: Sandbox) -> None:
    requests.get(bare.other_url(), timeout=10)
    request = bare.requests()[0]
    assert isinstance(request, Request)
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.status = 500  # type: ignore[misc]


def test_wait_for(bare: Sandbox) -> None:
    requests.get(bare.other_url(), timeout=10)
    (request,) = bare.wait_for(lambda seen: any(request.sent == len(CONTENT) for request in seen))
    assert request.server == "other"
    with pytest.raises(TimeoutError):
        bare.wait_for(len, 0.05, server="sso")


def test_take_discards_what_it_returns(bare: Sandbox) -> None:
    requests.head(bare.other_url(), timeout=10)
    (taken,) = bare.take()
    assert taken.server == "other"
    assert bare.take() == bare.requests() == []
