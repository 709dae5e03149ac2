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


def test_one_valid_token_gives_access(bare: Sandbox, get: Get) -> None:
    answer = get()
    assert (answer.status_code, answer.content) == (200, CONTENT)
    (request,) = bare.requests()
    assert (request.authorization, request.username) == ("valid", "researcher")


def test_no_token(bare: Sandbox) -> None:
    answer = requests.get(bare.url(), timeout=10)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="terrascope", error="invalid_token"'
    assert bare.requests()[0].authorization == "none"


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_ended_tokens(bare: Sandbox, get: Get, end: str) -> None:
    assert get().status_code == 200
    bare.revoke_tokens() if end == "revoked" else bare.expire_tokens()
    assert get().status_code == 401
    assert bare.requests()[-1].authorization == end
    new = login(bare)["access_token"]
    assert requests.get(bare.url(), headers=bearer(new), timeout=10).status_code == 200


def test_refresh_tokens_outlive_revoked_access_tokens(bare: Sandbox) -> None:
    token = login(bare)
    bare.revoke_tokens()
    form = {"client_id": "public", "grant_type": "refresh_token", "refresh_token": token["refresh_token"]}
    new = requests.post(bare.token_url, data=form, timeout=10).json()["access_token"]
    assert requests.get(bare.url(), headers=bearer(new), timeout=10).status_code == 200


def test_forged_tokens_and_other_schemes(bare: Sandbox) -> None:
    token = login(bare)["access_token"]
    head, claims, signature = token.split(".")
    unsigned = "eyJhbGciOiJub25lIn0." + claims + "."
    forged = f"{head}.{claims}.{'A' * len(signature)}"
    for header in [f"Bearer {forged}", f"Bearer {unsigned}", "Bearer x", "Basic eDp5", token, "Bearer "]:
        answer = requests.get(bare.url(), headers={"Authorization": header}, timeout=10)
        assert answer.status_code == 401, header
    assert {request.authorization for request in bare.requests("data")} == {"invalid"}


def test_a_token_of_another_realm(bare: Sandbox) -> None:
    with Sandbox(tiles=[bare.file()]) as elsewhere:
        foreign = login(elsewhere)["access_token"]
    assert requests.get(bare.url(), headers=bearer(foreign), timeout=10).status_code == 401


def test_two_authorization_headers(bare: Sandbox) -> None:
    token = login(bare)["access_token"]
    url = urlsplit(bare.url())
    connection = http.client.HTTPConnection(url.netloc)
    connection.putrequest("GET", url.path)
    for _ in range(2):
        connection.putheader("Authorization", f"Bearer {token}")
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()
    assert bare.requests("data")[0].authorization == "duplicate"


def test_login_page_instead_of_401(bare: Sandbox, get: Get) -> None:
    bare.login_page()
    answer = requests.get(bare.url(), timeout=10)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.history[0].status_code == 302
    assert answer.url == f"{bare.sso_origin}/auth/realms/terrascope/login"
    assert get().content == CONTENT
    bare.login_page(False)
    assert requests.get(bare.url(), timeout=10).status_code == 401


def test_no_licence(bare: Sandbox, get: Get) -> None:
    bare.deny("WORLDCOVER")
    assert get().status_code == 403
    assert requests.get(bare.url(), timeout=10).status_code == 401
    bare.heal()
    assert get().status_code == 200


def test_open_paths_need_no_token(bare: Sandbox, tmp_path: Path) -> None:
    url = bare.add_file(local(tmp_path / "open.tif", b"open"), "/download/open/open.tif")
    assert requests.get(url, timeout=10).content == b"open"


# Files


def test_head(bare: Sandbox, get: Get) -> None:
    answer = get(method="HEAD")
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(CONTENT)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert {"etag", "last-modified"} <= {name.lower() for name in answer.headers}
    assert bare.requests()[0].sent == 0


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
def test_ranges(bare: Sandbox, get: Get, span: str, content: bytes, content_range: str) -> None:
    answer = get(headers={"Range": span})
    assert answer.status_code == 206
    assert answer.content == content
    assert answer.headers["Content-Range"] == content_range
    assert int(answer.headers["Content-Length"]) == len(content)
    assert answer.headers["ETag"] == get(method="HEAD").headers["ETag"]
    request = bare.requests()[0]
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


def test_no_ranges(bare: Sandbox, get: Get) -> None:
    bare.no_ranges()
    answer = get(headers={"Range": "bytes=0-99"})
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["Accept-Ranges"] == "none"
    assert bare.requests()[0].range == "bytes=0-99"
    bare.no_ranges(False)
    assert get(headers={"Range": "bytes=0-99"}).status_code == 206


def test_the_query_is_ignored(bare: Sandbox, get: Get) -> None:
    assert get(bare.url() + "?n=17").content == CONTENT
    assert bare.requests()[0].query == "n=17"


def test_missing_files(bare: Sandbox, get: Get) -> None:
    folder = bare.url().rpartition("/")[0]
    paths = ["/", "/download/", "/download/nothing.tif"]
    for url in [*map(bare.url, paths), folder, f"{folder}/", f"{bare.url()}.aux.xml"]:
        assert get(url).status_code == 404, url
    assert get(method="PUT", data=b"x").status_code == 405


def test_files_are_served_as_they_are_now(bare: Sandbox, get: Get, tmp_path: Path) -> None:
    file = local(tmp_path / "a file.tif", b"first")
    url = bare.add_file(file, "extra/a file.tif")
    assert url == f"{bare.origin}/download/extra/a%20file.tif"
    assert bare.file(url) == bare.file("extra/a file.tif") == file
    assert get(url).content == b"first"
    file.write_bytes(b"second")
    assert get(url).content == b"second"
    file.unlink()
    assert get(url).status_code == 404
    with pytest.raises(FileNotFoundError):
        bare.add_file(file, "gone.tif")


# The open server, and redirects to it


def test_the_open_server(bare: Sandbox) -> None:
    assert bare.other_origin != bare.origin
    assert requests.get(bare.other_url(), timeout=10).content == CONTENT
    requests.get(bare.other_url(), headers={"Authorization": "Basic eDp5"}, timeout=10)
    assert [request.authorization for request in bare.requests("other")] == ["none", "present"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(bare: Sandbox, get: Get, status: int) -> None:
    url = bare.redirect_url(status=status)  # type: ignore[arg-type]
    assert url.endswith("_Map.tif")
    assert requests.get(url, timeout=10).status_code == 401
    answer = get(url)
    assert (answer.status_code, answer.headers["Location"]) == (status, bare.other_url())
    assert get(bare.redirect_url(to="data")).headers["Location"] == bare.url()
    assert get(bare.redirect_url(bare.url() + "?n=1")).headers["Location"] == bare.other_url("?n=1")


def test_signed_redirect(bare: Sandbox, get: Get) -> None:
    url = bare.signed_redirect_url()
    assert url.endswith("_Map.tif")
    answer = get(url)
    target = urlsplit(answer.headers["Location"])
    assert answer.status_code == 302
    assert f"{target.scheme}://{target.netloc}{target.path}" == bare.other_url()
    signature = {name: values[0] for name, values in parse_qs(target.query).items()}
    assert set(signature) == {
        f"X-Amz-{part}"
        for part in ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"]
    }
    signed_at = time.strptime(signature["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
    assert abs(time.time() - (time.mktime(signed_at) - time.timezone)) < 3700
    assert re.fullmatch("[0-9a-f]{64}", signature["X-Amz-Signature"])
    assert get(url, allow_redirects=True).content == CONTENT
    both = requests.get(answer.headers["Location"], headers={"Authorization": "Bearer x"}, timeout=10)
    assert both.status_code == 400


def test_a_redirect_of_the_open_server(bare: Sandbox, get: Get) -> None:
    there = bare.redirect_url(at="other", to="signed", status=307)
    answer = requests.get(there, allow_redirects=False, timeout=10)
    assert answer.status_code == 307
    assert answer.headers["Location"].startswith(bare.other_url())
    chain = bare.redirect_url(there, status=301)
    assert get(chain).headers["Location"] == there
