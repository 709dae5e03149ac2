"""The token: for whom, how it is renewed, and what a refusal becomes."""

import time

import pytest
from rasterio.errors import RasterioIOError

from helpers import grants, tokens_sent
from rio_terrascope import AccessDeniedError, InvalidCredentialsError, TerrascopeError, terrascope_env
from rio_terrascope.reading.fetching import Fetcher

RANGES = [(n * 3000, 100) for n in range(40)]


def only_error(found):
    (one,) = found
    assert one.data is None
    return one.error


def test_no_token_outside_of_a_block(sandbox, fetch):
    assert "response code: 401" in str(only_error(fetch(sandbox.url(), (0, 100))))
    assert tokens_sent(sandbox.requests()) == {"none"}


def test_no_token_elsewhere(env, sandbox, fetch):
    assert fetch(sandbox.other_url(), (0, 100))[0].error is None
    assert tokens_sent(sandbox.requests("other")) == {"none"}


@pytest.mark.parametrize("scope", ["origins", "env"])
def test_a_login_that_lapses_is_renewed_once_for_all(sandbox, fetch, scope):
    with terrascope_env(scope=scope), Fetcher() as fetcher:
        source = fetcher.open(sandbox.url())
        fetch(source, RANGES[0], by=fetcher)
        sandbox.revoke_tokens()
        found = fetch(source, *RANGES, by=fetcher)
        fetch(sandbox.other_url(), (0, 100), by=fetcher)
    assert all(one.error is None for one in found)
    assert grants(sandbox.requests(), "refresh_token") == 1
    assert tokens_sent(sandbox.requests("other")) == {"none"}


def test_a_token_is_never_sent_after_it_has_expired(fleeting, fetch):
    with terrascope_env() as env, Fetcher() as fetcher:
        source = fetcher.open(fleeting.url())
        env.tokens.stop()
        fetch(source, RANGES[0], by=fetcher)
        first = env.tokens.current
        while env.tokens.seconds_left > 0:
            time.sleep(0.05)
        fetch(source, RANGES[1], by=fetcher)
        assert env.tokens.current is not first
    assert tokens_sent(fleeting.requests("data")) == {"valid"}


def test_a_login_that_cannot_be_renewed(env, sandbox, fetch):
    sandbox.end_sessions()
    sandbox.set_password("researcher", "another")
    errors = [one.error for one in fetch(sandbox.url(), *RANGES)]
    assert {type(error) for error in errors} == {InvalidCredentialsError}
    assert grants(sandbox.requests(), "password") == 2


def test_refused_again(env, sandbox, fetch):
    sandbox.fail(401, None, headers={"WWW-Authenticate": 'Bearer error_description="not for you."'})
    error = only_error(fetch(sandbox.url(), (0, 100)))
    assert isinstance(error, AccessDeniedError)
    assert error.status == 401
    assert error.url == sandbox.url()
    assert "401 (Unauthorized): not for you, although the login is valid" in str(error)
    assert len(sandbox.requests("data")) == 2


@pytest.mark.parametrize("answer", [{"status": 401}, {"status": 200, "content_type": "text/html"}])
def test_a_file_that_is_refused_for_good_costs_one_renewal(env, sandbox, fetch, answer):
    sandbox.fail(**answer, times=None)
    found = fetch(sandbox.url(), *RANGES)
    assert {type(one.error) for one in found} == {AccessDeniedError}
    assert grants(sandbox.requests(), "refresh_token") == 1


def test_a_login_that_lapses_again_and_again(env, sandbox, fetch, fetcher):
    source = fetcher.open(sandbox.url())
    for times in range(1, 4):
        sandbox.revoke_tokens()
        assert all(one.error is None for one in fetch(source, *RANGES))
        assert grants(sandbox.requests(), "refresh_token") == times


def test_no_licence(env, sandbox, fetch):
    sandbox.deny("Map.tif")
    error = only_error(fetch(sandbox.url(), (0, 100)))
    assert isinstance(error, AccessDeniedError)
    assert error.status == 403
    with pytest.raises(AccessDeniedError) as raised:
        env.open(sandbox.url())
    assert str(raised.value) == str(error)


def test_login_pages(env, sandbox, fetch):
    source_of = Fetcher().open
    sandbox.login_page()
    sandbox.revoke_tokens()
    found = fetch(source_of(sandbox.url()), *RANGES)
    assert all(one.error is None for one in found)
    assert grants(sandbox.requests(), "refresh_token") == 1
    sandbox.fail(200, None, content_type="text/html", body="<html>log in")
    error = only_error(fetch(sandbox.url(), (0, 100)))
    assert isinstance(error, AccessDeniedError)
    assert "login page" in str(error)
    sandbox.heal()


def test_a_login_page_outside_of_a_block(sandbox, fetch):
    sandbox.login_page()
    error = only_error(fetch(sandbox.url(), (0, 100)))
    assert isinstance(error, RasterioIOError)
    assert "web page" in str(error)


def test_a_block_that_was_left(sandbox, fetch):
    with terrascope_env(), Fetcher() as fetcher:
        source = fetcher.open(sandbox.url())
    sandbox.clear()
    assert isinstance(only_error(fetch(source, (0, 100))), TerrascopeError)
    assert sandbox.requests("data") == []


def test_paths_of_gdal(env, sandbox, fetch):
    assert fetch(f"/vsicurl/{sandbox.url()}", (0, 100))[0].error is None
    assert fetch(f"{sandbox.url()}#part", (0, 100))[0].error is None
