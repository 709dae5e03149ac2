"""No token, password or signature in logs, errors, reprs and tracebacks of the fetching."""

import gc
import logging
import pickle

import pytest
import rasterio

from raw_server import response
from rio_terrascope import terrascope_env
from rio_terrascope.reading.fetching import Fetcher
from rio_terrascope.reading.fetching.answers import Steps

SIGNATURE = "s1gnature-of-mine"
RANGES = [(n * 3000, 100) for n in range(20)]

pytestmark = pytest.mark.usefixtures("quick")


def shown(error):
    parts = []
    while error is not None:
        parts += [str(error), repr(error), repr(error.args)]
        # the attribute `url` is the whole one, for programs
        parts.append(repr({name: value for name, value in vars(error).items() if name != "url"}))
        assert error.__traceback__ is None
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


@pytest.mark.parametrize("trouble", ["", "401", "403", "404", "500", "reset", "truncate", "redirect", "html"])
def test_nothing_is_shown(sandbox, fetch, caplog, capfd, trouble):
    caplog.set_level(logging.DEBUG)
    with terrascope_env() as env, Fetcher() as fetcher:
        token = env.token.access_token
        if trouble.isdecimal():
            sandbox.fail(int(trouble), None)
        elif trouble == "reset":
            sandbox.reset(None)
        elif trouble == "truncate":
            sandbox.truncate(None, after=20)
        elif trouble == "html":
            sandbox.fail(200, None, content_type="text/html")
        url = sandbox.redirect_url(to="signed") if trouble == "redirect" else sandbox.url()
        source = fetcher.open(f"{url}?signature={SIGNATURE}")
        found = fetch(source, *RANGES, by=fetcher)
        tokens = [token, env.token.access_token]
        reprs = [repr(one) for one in (source, fetcher, *found, source.options)]
        reprs += [
            repr(thing)
            for thing in gc.get_objects()
            if str(type(thing).__module__).startswith("rio_terrascope.reading.fetching")
        ]
    assert any(one.error for one in found) is (trouble not in ("", "redirect"))
    text = "\n".join(
        [caplog.text, *capfd.readouterr(), *reprs, *(shown(one.error) for one in found if one.error)]
    )
    for secret in (*tokens, SIGNATURE, "X-Amz-Signature", sandbox.password):
        assert secret not in text


def test_the_users_own_headers_are_not_shown(raw, fetch, fetcher):
    server = raw(lambda request, connection: response(500))
    with rasterio.Env(GDAL_HTTP_HEADERS="Authorization: Basic abcdefgh"):
        source = fetcher.open(server.url)
    (one,) = fetch(source, (0, 10))
    assert server.requests[0].headers["authorization"] == "Basic abcdefgh"
    assert "abcdefgh" not in shown(one.error) + repr(source.options) + repr(vars(source))


def test_an_error_can_be_pickled(raw, fetch):
    server = raw(lambda request, connection: response(404))
    (one,) = fetch(server.url, (0, 10))
    assert str(pickle.loads(pickle.dumps(one.error))) == str(one.error)


def test_what_may_hold_a_token_cannot_be_pickled(sandbox, fetch, fetcher):
    with terrascope_env():
        source = fetcher.open(sandbox.url())
        (fetched,) = fetch(source, (0, 100))
        for thing in (source, source.options, fetched, Steps(source, 0, 10)):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(thing)
