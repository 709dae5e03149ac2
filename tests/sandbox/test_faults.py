"""The faults that the sandbox causes, and that `heal` ends them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import requests

from rio_terrascope.sandbox import Sandbox

from .conftest import CONTENT, grant, login

Get = Callable[..., requests.Response]


def test_fail_a_number_of_times(bare: Sandbox, get: Get) -> None:
    bare.fail(503, times=2, headers={"Retry-After": "7"})
    first = get()
    assert (first.status_code, first.headers["Retry-After"]) == (503, "7")
    assert "<h1>503 Service Unavailable</h1>" in first.text
    assert [get().status_code, get().status_code] == [503, 200]
    assert [request.status for request in bare.requests()] == [503, 503, 200]


def test_fail_until_healed(bare: Sandbox, get: Get) -> None:
    bare.fail(500, times=None)
    assert {get().status_code for _ in range(5)} == {500}
    bare.heal()
    assert get().status_code == 200


def test_fail_affects_only_matching_requests(bare: Sandbox, get: Get) -> None:
    bare.fail(418, times=None, match="n=2", method="GET")
    assert get(bare.url("?n=1")).status_code == 200
    assert get(bare.url("?n=2"), method="HEAD").status_code == 200
    assert get(bare.other_url("?n=2")).status_code == 200
    assert get(bare.url("?n=2")).status_code == 418


def test_some_requests_pass_first(bare: Sandbox, get: Get) -> None:
    bare.fail(503, skip=2, match="n=1")
    found = [get(bare.url(f"?n={n}")).status_code for n in (1, 2, 1, 2, 1, 1)]
    assert found == [200, 200, 200, 200, 503, 200]


def test_fail_with_a_body(bare: Sandbox, get: Get) -> None:
    bare.fail(200, body=b"\x00garbage", content_type="image/tiff")
    answer = get()
    assert (answer.status_code, answer.content) == (200, b"\x00garbage")
    assert answer.headers["Content-Type"] == "image/tiff"


def test_fail_on_the_login_server(bare: Sandbox) -> None:
    bare.fail(401, server="sso")
    bare.fail(400, server="sso")
    bare.fail(502, server="sso")
    fields = {"grant_type": "password", "username": "researcher", "password": bare.password}
    answers = [grant(bare, **fields) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 400, 502, 200]
    assert answers[0].json() == {
        "error": "invalid_grant",
        "error_description": "Invalid user credentials",
    }
    assert answers[1].json()["error_description"] == "Token is not active"
    assert answers[2].headers["Content-Type"].startswith("text/html")
    # The journal has the grant of a request even if it failed.
    assert [request.grant for request in bare.requests("sso")] == ["password"] * 4


def test_hang_until_healed(bare: Sandbox, get: Get) -> None:
    bare.hang()
    outcome: list[BaseException] = []

    def hung() -> None:
        try:
            get()
        except requests.ConnectionError as error:
            outcome.append(error)

    thread = threading.Thread(target=hung)
    thread.start()
    bare.wait_for(len)
    assert get(bare.url("?n=meanwhile")).status_code == 200
    assert thread.is_alive()
    bare.heal()
    thread.join(10)
    assert len(outcome) == 1
    assert bare.requests()[0].status is None


def test_hang_until_the_client_goes(bare: Sandbox, get: Get) -> None:
    bare.hang()
    with pytest.raises(requests.ReadTimeout):
        get(timeout=0.1)
    assert get().status_code == 200


def test_reset(bare: Sandbox, get: Get) -> None:
    bare.reset()
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        get()
    assert bare.requests()[0].status is None
    assert get().status_code == 200


def test_reset_in_the_body(bare: Sandbox, get: Get) -> None:
    bare.reset(after=5000)
    assert get(method="HEAD").status_code == 200
    answer = get(stream=True)
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(CONTENT)
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="reset by peer"):
        _ = answer.content
    request = bare.requests()[-1]
    assert (request.status, request.sent) == (200, 5000)


def test_reset_after_the_headers(bare: Sandbox, get: Get) -> None:
    bare.reset(after=0)
    answer = get(stream=True)
    assert answer.status_code == 200
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="reset by peer"):
        _ = answer.content


def test_truncate(bare: Sandbox, get: Get) -> None:
    bare.truncate(after=5000)
    answer = get(stream=True)
    received: list[bytes] = []
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        received.extend(answer.iter_content(1000))
    assert b"".join(received) == CONTENT[:5000]
    assert bare.requests()[0].sent == 5000
    assert get().content == CONTENT


def test_drip(bare: Sandbox, get: Get) -> None:
    bare.drip(0.02)
    start = time.monotonic()
    answer = get(headers={"Range": "bytes=0-10239"})
    assert answer.content == CONTENT[:10240]
    assert time.monotonic() - start > 9 * 0.02


def test_wrong_content_range(bare: Sandbox, get: Get) -> None:
    bare.wrong_content_range()
    assert get().status_code == 200
    answer = get(headers={"Range": "bytes=0-99"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (206, "bytes 1-100/102400")
    assert get(headers={"Range": "bytes=0-99"}).headers["Content-Range"] == "bytes 0-99/102400"


def test_wrong_range(bare: Sandbox, get: Get) -> None:
    bare.wrong_content_range(shifted=True)
    answer = get(headers={"Range": "bytes=100-199"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (206, "bytes 101-200/102400")
    assert answer.content == CONTENT[101:200] + b"\0"
    assert get(headers={"Range": "bytes=100-199"}).content == CONTENT[100:200]


def test_multipart(bare: Sandbox, get: Get) -> None:
    bare.multipart(skip=1)
    assert get().status_code == 200
    assert get(headers={"Range": "bytes=0-99"}).content == CONTENT[:100]
    answer = get(headers={"Range": "bytes=100-199"})
    kind, _, boundary = answer.headers["Content-Type"].partition("; boundary=")
    assert (answer.status_code, kind) == (206, "multipart/byteranges")
    _, part, end = answer.content.split(b"--" + boundary.encode())
    head, _, body = part.partition(b"\r\n\r\n")
    assert b"Content-Range: bytes 100-199/102400" in head
    assert (body, end) == (CONTENT[100:200] + b"\r\n", b"--\r\n")
    assert "Content-Range" not in answer.headers
    assert get(headers={"Range": "bytes=100-199"}).content == CONTENT[100:200]


def test_latency_does_not_add_up(bare: Sandbox, get: Get, in_threads: Callable[..., None]) -> None:
    bare.latency(0.2)
    start = time.monotonic()
    in_threads(*[get] * 8)
    assert 0.2 <= time.monotonic() - start < 1.0
    bare.heal()
    start = time.monotonic()
    login(bare)
    assert time.monotonic() - start < 0.2


def test_faults_come_in_the_order_given(bare: Sandbox, get: Get) -> None:
    bare.fail(500)
    bare.fail(502)
    assert [get().status_code for _ in range(3)] == [500, 502, 200]
