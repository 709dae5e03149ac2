"""The data server and the open server: access, files and redirects."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from rio_terrascope.sandbox import Sandbox

from .conftest import CONTENT, local, login

Get = Callable[..., requests.Response]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Access


def test_one_valid_token_gives_access(sandbox: Sandbox, get: Get) -> None:
    answer = get()
    assert (answer.status_code, answer.content) == (200, CONTENT)
    (request,) = sandbox.requests()
    assert (request.authorization, request.username) == ("valid", "researcher")


def test_no_token(sandbox: Sandbox) -> None:
    answer = requests.get(sandbox.url(), timeout=10)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="terrascope", error="invalid_token"'
    assert sandbox.requests()[0].authorization == "none"


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_ended_tokens(sandbox: Sandbox, get: Get, end: str) -> None:
    assert get().status_code == 200
    sandbox.revoke_tokens() if end == "revoked" else sandbox.expire_tokens()
    assert get().status_code == 401
    assert sandbox.requests()[-1].authorization == end
    new = login(sandbox)["access_token"]
    assert requests.get(sandbox.url(), headers=bearer(new), timeout=10).status_code == 200


def test_refresh_tokens_outlive_revoked_access_tokens(sandbox: Sandbox) -> None:
    token = login(sandbox)
    sandbox.revoke_tokens()
    form = {"client_id": "public", "grant_type": "refresh_token", "refresh_token": token["refresh_token"]}
    new = requests.post(sandbox.token_url, data=form, timeout=10).json()["access_token"]
    assert requests.get(sandbox.url(), headers=bearer(new), timeout=10).status_code == 200


def test_forged_tokens_and_other_schemes(sandbox: Sandbox) -> None:
    token = login(sandbox)["access_token"]
    head, claims, signature = token.split(".")
    unsigned = "eyJhbGciOiJub25lIn0." + claims + "."
    forged = f"{head}.{claims}.{'A' * len(signature)}"
    for header in [f"Bearer {forged}", f"Bearer {unsigned}", "Bearer x", "Basic eDp5", token, "Bearer "]:
        answer = requests.get(sandbox.url(), headers={"Authorization": header}, timeout=10)
        assert answer.status_code == 401, header
    assert {request.authorization for request in sandbox.requests("data")} == {"invalid"}


def test_a_token_of_another_realm(sandbox: Sandbox) -> None:
    with Sandbox(tiles=[sandbox.file()]) as elsewhere:
        foreign = login(elsewhere)["access_token"]
    assert requests.get(sandbox.url(), headers=bearer(foreign), timeout=10).status_code == 401


def test_two_authorization_headers(sandbox: Sandbox) -> None:
    token = login(sandbox)["access_token"]
    url = urlsplit(sandbox.url())
    connection = http.client.HTTPConnection(url.netloc)
    connection.putrequest("GET", url.path)
    for _ in range(2):
        connection.putheader("Authorization", f"Bearer {token}")
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()
    assert sandbox.requests("data")[0].authorization == "duplicate"


def test_login_page_instead_of_401(sandbox: Sandbox, get: Get) -> None:
    sandbox.login_page()
    answer = requests.get(sandbox.url(), timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.history[0].status_code == 302
    assert answer.url == f"{sandbox.sso_origin}/auth/realms/terrascope/login"
    assert get().content == CONTENT
    sandbox.login_page(False)
    assert requests.get(sandbox.url(), timeout=10).status_code == 401


def test_no_licence(sandbox: Sandbox, get: Get) -> None:
    sandbox.deny("WORLDCOVER")
    assert get().status_code == 403
    assert requests.get(sandbox.url(), timeout=10).status_code == 401
    sandbox.heal()
    assert get().status_code == 200


def test_open_paths_need_no_token(sandbox: Sandbox, tmp_path: Path) -> None:
    url = sandbox.add_file(local(tmp_path / "open.tif", b"open"), "/download/open/open.tif")
    assert requests.get(url, timeout=10).content == b"open"


# Files


def test_head(sandbox: Sandbox, get: Get) -> None:
    answer = get(method="HEAD")
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(CONTENT)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert {"etag", "last-modified"} <= {name.lower() for name in answer.headers}
    assert sandbox.requests()[0].sent == 0


@pytest.mark.parametrize(
    ("span", "content", "content_range"),
    [
        ("bytes=0-99", CONTENT[:100], "bytes 0-99/102400"),
        ("bytes=100-100", CONTENT[100:101], "bytes 100-100/102400"),
        ("bytes=102300-", CONTENT[-100:], "bytes 102300-102399/102400"),
        ("bytes=-10", CONTENT[-10:], "bytes 102390-102399/102400"),
        ("bytes=102390-999999", CONTENT[-10:], "bytes 102390-102399/102400"),
    ],
)
def test_ranges(sandbox: Sandbox, get: Get, span: str, content: bytes, content_range: str) -> None:
    answer = get(headers={"Range": span})
    assert answer.status_code == 206
    assert answer.content == content
    assert answer.headers["Content-Range"] == content_range
    assert int(answer.headers["Content-Length"]) == len(content)
    assert answer.headers["ETag"] == get(method="HEAD").headers["ETag"]
    request = sandbox.requests()[0]
    assert (request.range, request.sent) == (span, len(content))


def test_ranges_beyond_the_end(get: Get) -> None:
    for span in ["bytes=102400-102500", "bytes=200000-"]:
        answer = get(headers={"Range": span})
        assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */102400")


def test_several_ranges(get: Get) -> None:
    answer = get(headers={"Range": "bytes=0-9,1000-1009"})
    assert answer.status_code == 206
    assert answer.headers["Content-Type"].startswith("multipart/byteranges")


def test_conditional_requests(get: Get) -> None:
    etag = get(method="HEAD").headers["ETag"]
    assert get(headers={"If-None-Match": etag}).status_code == 304
    assert get(headers={"If-None-Match": etag, "Range": "bytes=0-9"}).status_code == 304
    assert get(headers={"If-Range": etag, "Range": "bytes=0-9"}).status_code == 206
    assert get(headers={"If-Range": '"old"', "Range": "bytes=0-9"}).status_code == 200


def test_no_ranges(sandbox: Sandbox, get: Get) -> None:
    sandbox.no_ranges()
    answer = get(headers={"Range": "bytes=0-99"})
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["Accept-Ranges"] == "none"
    assert sandbox.requests()[0].range == "bytes=0-99"
    sandbox.no_ranges(False)
    assert get(headers={"Range": "bytes=0-99"}).status_code == 206


def test_the_query_is_ignored(sandbox: Sandbox, get: Get) -> None:
    assert get(sandbox.url() + "?n=17").content == CONTENT
    assert sandbox.requests()[0].query == "n=17"


def test_missing_files(sandbox: Sandbox, get: Get) -> None:
    folder = sandbox.url().rpartition("/")[0]
    paths = ["/", "/download/", "/download/nothing.tif"]
    for url in [*map(sandbox.url, paths), folder, f"{folder}/", f"{sandbox.url()}.aux.xml"]:
        assert get(url).status_code == 404, url
    assert get(method="PUT", data=b"x").status_code == 405


def test_files_are_served_as_they_are_now(sandbox: Sandbox, get: Get, tmp_path: Path) -> None:
    file = local(tmp_path / "a file.tif", b"first")
    url = sandbox.add_file(file, "extra/a file.tif")
    assert url == f"{sandbox.origin}/download/extra/a%20file.tif"
    assert sandbox.file(url) == sandbox.file("extra/a file.tif") == file
    assert get(url).content == b"first"
    file.write_bytes(b"second")
    assert get(url).content == b"second"
    file.unlink()
    assert get(url).status_code == 404
    with pytest.raises(FileNotFoundError):
        sandbox.add_file(file, "gone.tif")


# The open server, and redirects to it


def test_the_open_server(sandbox: Sandbox) -> None:
    assert sandbox.other_origin != sandbox.origin
    assert requests.get(sandbox.other_url(), timeout=10).content == CONTENT
    requests.get(sandbox.other_url(), headers={"Authorization": "Basic eDp5"}, timeout=10)
    assert [request.authorization for request in sandbox.requests("other")] == ["none", "present"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(sandbox: Sandbox, get: Get, status: int) -> None:
    url = sandbox.redirect_url(status=status)  # type: ignore[arg-type]
    assert url.endswith("_Map.tif")
    assert requests.get(url, timeout=10).status_code == 401
    answer = get(url)
    assert (answer.status_code, answer.headers["Location"]) == (status, sandbox.other_url())
    assert get(sandbox.redirect_url(to="data")).headers["Location"] == sandbox.url()
    assert get(sandbox.redirect_url(sandbox.url() + "?n=1")).headers["Location"] == sandbox.other_url("?n=1")


def test_signed_redirect(sandbox: Sandbox, get: Get) -> None:
    url = sandbox.signed_redirect_url()
    assert url.endswith("_Map.tif")
    answer = get(url)
    target = urlsplit(answer.headers["Location"])
    assert answer.status_code == 302
    assert f"{target.scheme}://{target.netloc}{target.path}" == sandbox.other_url()
    signature = {name: values[0] for name, values in parse_qs(target.query).items()}
    assert set(signature) == {
        f"X-Amz-{part}"
        for part in ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"]
    }
    signed_at = time.strptime(signature["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
    assert abs(time.time() - (time.mktime(signed_at) - time.timezone)) < 3700
    assert re.fullmatch("[0-9a-f]{64}", signature["X-Amz-Signature"])
    assert get(url, allow_redirects=True).content == CONTENT
