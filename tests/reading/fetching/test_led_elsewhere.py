"""Redirects: right bytes, no token at another origin, and the way is remembered."""

import itertools

import pytest
import rasterio
from rasterio.errors import RasterioIOError

from helpers import tokens_sent
from raw_server import response
from rio_terrascope import AccessDeniedError

RANGES = [(n * 3000, 100) for n in range(40)]


@pytest.mark.parametrize(
    ("status", "to"), [*itertools.product([300, 301, 302, 303, 307, 308], ["other", "signed"])]
)
def test_to_another_host(env, sandbox, fetch, fetcher, tiles, status, to):
    source = fetcher.open(sandbox.redirect_url(to=to, status=status))
    (first,) = fetch(source, (0, 100))
    assert first.data == tiles[0].read_bytes()[:100]
    assert all(one.error is None for one in fetch(source, *RANGES))
    assert tokens_sent(sandbox.requests("other")) == {"none"}
    assert len(sandbox.requests("data")) == 1
    assert len(sandbox.requests("other")) == 41


def test_within_the_origin(env, sandbox, fetch, fetcher):
    source = fetcher.open(sandbox.redirect_url(to="data"))
    fetch(source, (0, 100))
    assert all(one.error is None for one in fetch(source, *RANGES))
    assert tokens_sent(sandbox.requests("data")) == {"valid"}
    assert len(sandbox.requests("data")) == 42


def test_there_and_back(env, sandbox, fetch):
    there = sandbox.redirect_url(at="other", to="data").removeprefix(sandbox.other_origin)
    assert fetch(sandbox.redirect_url(there), (0, 100))[0].error is None
    assert tokens_sent(sandbox.requests("other")) == {"none"}
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


@pytest.mark.parametrize(("count", "works"), [(5, True), (6, False)])
def test_five_in_a_row(env, sandbox, fetch, count, works):
    url = sandbox.url()
    for _ in range(count):
        url = sandbox.redirect_url(url, to="data")
    (one,) = fetch(url, (0, 100))
    assert (one.error is None) is works
    if not works:
        assert isinstance(one.error, RasterioIOError)
        assert "more than 5 redirects in a row" in str(one.error)


@pytest.mark.parametrize("status", [400, 401, 403, 410])
def test_a_signature_that_expires(env, sandbox, fetch, fetcher, status):
    source = fetcher.open(sandbox.redirect_url(to="signed"))
    fetch(source, (0, 100))
    sandbox.fail(status, times=2, server="other")
    assert all(one.error is None for one in fetch(source, *RANGES))
    sandbox.fail(status, times=None, server="other")
    (one,) = fetch(source, (0, 100))
    if status in (401, 403):
        assert isinstance(one.error, AccessDeniedError)
        assert f"it redirects to {sandbox.other_origin[7:]}, which answered {status}" in str(one.error)
    else:
        assert f"response code: {status}" in str(one.error)
    sandbox.clear()


def test_a_target_that_expires_is_forgotten(raw, fetch, fetcher):
    valid = ["1"]
    there = raw(
        lambda request, connection: there.part(request) if request.path[-1] == valid[0] else response(403)
    )
    here = raw(lambda request, connection: response(302, Location=f"{there.url}?{valid[0]}"))
    source = fetcher.open(here.url)
    fetch(source, (0, 100))
    valid[0] = "2"
    assert fetch(source, (5000, 100))[0].error is None
    assert fetch(source, (9000, 100))[0].error is None
    assert [request.path[-1] for request in there.requests] == ["1", "1", "2", "2"]
    assert len(here.requests) == 2


@pytest.mark.parametrize(
    "location",
    ["ftp://host.example/a.tif", "http://[::1", "http://host.example:port/a.tif", "http://host.example:99999/",
     "file:///etc/passwd"],
)  # fmt: skip
def test_to_nowhere(raw, fetch, location):
    server = raw(lambda request, connection: response(302, Location=location))
    (one,) = fetch(server.url, (0, 100))
    assert isinstance(one.error, RasterioIOError)
    assert "not an http(s):// URL" in str(one.error)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/a.tif",
        "http://host.example:port/a.tif",
        "http://host.example:99999/a.tif",
        "/a.tif",
        "s3://b/a.tif",
    ],
)
def test_malformed_urls(fetcher, url):
    with pytest.raises(RasterioIOError, match="not a valid http"):
        fetcher.open(url)


@pytest.mark.usefixtures("quick")
def test_a_host_name_that_cannot_be_asked_for(raw, fetch):
    server = raw(
        lambda request, connection: response(
            302, Location="http://b\u00fc\u00fc..example/a.tif".encode().decode("latin-1")
        )
    )
    (one,) = fetch(server.url, (0, 100))
    assert isinstance(one.error, RasterioIOError)


def test_characters_that_must_be_encoded(raw, fetch):
    server = raw(lambda request, connection: server.part(request))
    found = fetch(server.url.replace("a.tif", "l and/c\u00f4te %C3%B4.tif?a=\u00f4 b"), (0, 100))
    assert found[0].error is None
    assert server.requests[0].path == "/l%20and/c%C3%B4te%20%C3%B4.tif?a=%C3%B4%20b"


def test_the_users_headers_stay_at_the_origin(raw, fetch, fetcher):
    there = raw(lambda request, connection: there.part(request))
    here = raw(lambda request, connection: response(302, Location=there.url))
    with rasterio.Env(GDAL_HTTP_HEADERS="Authorization: Basic abc,X-Key: k", GDAL_HTTP_USERAGENT="me"):
        source = fetcher.open(here.url)
    assert fetch(source, (0, 100))[0].error is None
    assert here.requests[0].headers["authorization"] == "Basic abc"
    assert here.requests[0].headers["x-key"] == "k"
    assert not {"authorization", "x-key"} & set(there.requests[0].headers)
    assert there.requests[0].headers["user-agent"] == "me"
