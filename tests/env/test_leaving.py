"""Entering, nesting and leaving: earlier failures do no harm, and leaving removes every trace."""

import threading

import pytest
import rasterio
from rasterio.errors import RasterioIOError

from helpers import assert_same_pixels, grants, headers_in_memory, some_windows, tokens_sent
from rio_terrascope import (
    AccountConflictError,
    CredentialsNotFoundError,
    InvalidCredentialsError,
    TerrascopeError,
    TerrascopeWarning,
    TokenSource,
    login,
    logout,
    terrascope_env,
)
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.options import (
    HEADER_FILE,
    HEADERS,
    PATH_OPTIONS,
    PROCESS_OPTIONS,
    S3_REDIRECT,
    AppliedOptions,
)

REFRESH_THREAD = "rio-terrascope-refresh"


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name == REFRESH_THREAD]


def options_set(sandbox):
    """Return everything that the package may have set in GDAL."""
    prefix = f"/vsicurl/{sandbox.origin}/"
    per_path = [HEADER_FILE, HEADERS, *PATH_OPTIONS]
    for_process = [S3_REDIRECT, *PROCESS_OPTIONS]
    found = {key: libgdal.get_own_path_option(prefix, key) for key in per_path}
    found |= {key: libgdal.get_config_option(key) for key in for_process}
    return {key: value for key, value in found.items() if value is not None}


def assert_no_trace(sandbox):
    assert options_set(sandbox) == {}
    assert headers_in_memory() == []
    assert threads() == []
    sandbox.clear()
    with pytest.raises(RasterioIOError):
        rasterio.open(sandbox.url())
    # it was asked, so no pixel came from a cache; and it got no token
    assert tokens_sent(sandbox.requests("data")) == {"none"}


def test_leaves_no_trace(sandbox, local, clean_surroundings):
    with terrascope_env(), rasterio.open(sandbox.url()) as src:
        assert_same_pixels(src, local, some_windows(3))
        assert len(headers_in_memory()) == 1
        assert list(clean_surroundings.iterdir()) == []  # no token on disk
        assert threads() == [REFRESH_THREAD]
        assert HEADER_FILE in options_set(sandbox)
    assert_no_trace(sandbox)


@pytest.mark.parametrize("scope", ["origins", "env"])
def test_a_variable_is_not_made_a_setting(sandbox, monkeypatch, scope):
    """rasterio does so when its Env is left, and a later change of the variable would not count."""
    monkeypatch.setenv("GDAL_HTTP_USERAGENT", "mine")
    with terrascope_env(scope=scope, GDAL_HTTP_USERAGENT="the block's"):
        assert libgdal.get_config_option("GDAL_HTTP_USERAGENT") == "the block's"
    assert libgdal.get_process_option("GDAL_HTTP_USERAGENT") is None
    assert libgdal.get_config_option("GDAL_HTTP_USERAGENT") == "mine"


def test_leaves_no_trace_after_an_error(sandbox):
    with pytest.raises(ZeroDivisionError), terrascope_env():
        _ = 1 / 0
    assert_no_trace(sandbox)


def test_leaves_no_trace_if_the_login_fails(sandbox):
    with pytest.raises(InvalidCredentialsError), terrascope_env("researcher", "wrong"):
        pass
    assert_no_trace(sandbox)


def test_wrong_credentials_raise_on_entering_not_before(sandbox):
    env = terrascope_env("researcher", "wrong")
    with pytest.raises(InvalidCredentialsError):
        env.__enter__()
    assert grants(sandbox.requests(), "password") == 1


def test_no_credentials(sandbox, monkeypatch):
    monkeypatch.delenv("TERRASCOPE_PASSWORD")
    with pytest.raises(CredentialsNotFoundError, match="TERRASCOPE_PASSWORD"), terrascope_env():
        pass
    assert sandbox.requests() == []


@pytest.mark.parametrize("failure", ["401", "login page"])
def test_an_earlier_failure_does_not_affect_the_block(sandbox, local, failure):
    sandbox.login_page(failure == "login page")
    with pytest.raises(RasterioIOError):
        rasterio.open(sandbox.url())
    with terrascope_env(), rasterio.open(sandbox.url()) as src:
        assert_same_pixels(src, local, some_windows(1))


def test_nested_for_the_same_account_is_one_login(sandbox, local):
    with terrascope_env() as outer:
        with terrascope_env() as inner:
            assert inner.token is outer.token
        with rasterio.open(sandbox.url()) as src:
            assert_same_pixels(src, local, some_windows(1))
        with outer, rasterio.open(sandbox.url()) as src:  # the same one, once more
            assert_same_pixels(src, local, some_windows(1))
    assert grants(sandbox.requests(), "password") == 1
    assert_no_trace(sandbox)


def test_one_env_may_be_used_again(sandbox, local):
    env = terrascope_env()
    for _ in range(2):
        with env, rasterio.open(sandbox.url()) as src:
            assert_same_pixels(src, local, some_windows(1))
    with pytest.raises(TerrascopeError, match="not logged in"):
        _ = env.token


def test_two_accounts_at_once(sandbox):
    with terrascope_env(), pytest.raises(AccountConflictError) as raised:
        terrascope_env("colleague", "other-password").__enter__()
    assert sandbox.origin in str(raised.value)
    assert "researcher" in str(raised.value)
    assert "logout()" in str(raised.value)
    assert grants(sandbox.requests(), "password") == 1  # the second account did not log in
    with terrascope_env("colleague", "other-password"):
        assert sandbox.requests("sso")[-1].username == "colleague"


def test_the_same_account_with_a_wrong_password_is_refused(sandbox):
    with terrascope_env() as env:
        with pytest.raises(InvalidCredentialsError), terrascope_env("researcher", "wrong"):
            pass
        env.open(sandbox.url()).close()


def test_a_given_token_source(sandbox, local):
    tokens = TokenSource()
    with terrascope_env(tokens=tokens) as env, rasterio.open(sandbox.url()) as src:
        assert env.tokens is tokens
        assert_same_pixels(src, local, some_windows(1))
    with terrascope_env(tokens=tokens):  # still logged in
        pass
    assert grants(sandbox.requests(), "password") == 1


def test_login_and_logout(sandbox, local):
    login()
    src = rasterio.open(sandbox.url())
    env = login()  # as when a notebook's cell runs again: the dataset reads on
    assert_same_pixels(src, local, some_windows(3))
    assert env.open(sandbox.url()).shape == local.shape
    assert grants(sandbox.requests(), "password") == 1
    src.close()
    logout()
    logout()
    assert_no_trace(sandbox)


def test_login_ends_with_the_process(sandbox, clean_surroundings, monkeypatch):
    import subprocess
    import sys

    monkeypatch.delenv("CPL_DEBUG", raising=False)  # with it, GDAL warns of rasterio's own options
    script = (
        "import os, rio_terrascope; rio_terrascope.login(); "
        "print(len(os.listdir(os.environ['XDG_RUNTIME_DIR'])))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("0", "")
    assert list(clean_surroundings.iterdir()) == []


class TestOptions:
    """Options that the user has set win, and come back on leaving."""

    def test_read_options_are_set_in_all_threads(self, sandbox, in_threads):
        def look():
            assert libgdal.get_config_option("GDAL_INGESTED_BYTES_AT_OPEN") == "32768"

        with terrascope_env():
            look()
            in_threads(look)
            prefix = f"/vsicurl/{sandbox.origin}/"
            assert libgdal.get_path_option(prefix, "GDAL_DISABLE_READDIR_ON_OPEN") == "EMPTY_DIR"

    def test_arguments_win(self, sandbox):
        with terrascope_env(
            GDAL_HTTP_MAX_RETRY=7, GDAL_INGESTED_BYTES_AT_OPEN=16384, GDAL_DISABLE_READDIR_ON_OPEN=False
        ):
            prefix = f"/vsicurl/{sandbox.origin}/"
            assert libgdal.get_path_option(prefix, "GDAL_HTTP_MAX_RETRY") == "7"
            assert libgdal.get_path_option(prefix, "GDAL_DISABLE_READDIR_ON_OPEN") == "OFF"
            assert (
                libgdal.get_config_option("GDAL_HTTP_MAX_RETRY") == "7"
            )  # and for other hosts, as in any Env
            with rasterio.Env(CPL_DEBUG=False):  # an inner Env does not clear the process's options
                pass
            assert libgdal.get_config_option("GDAL_INGESTED_BYTES_AT_OPEN") == "16384"
        assert options_set(sandbox) == {}

    def test_an_enclosing_env_wins(self, sandbox):
        with rasterio.Env(GDAL_HTTP_MAX_RETRY=9, GDAL_INGESTED_BYTES_AT_OPEN=999):
            with terrascope_env():
                prefix = f"/vsicurl/{sandbox.origin}/"
                assert libgdal.get_path_option(prefix, "GDAL_HTTP_MAX_RETRY") == "9"
                assert libgdal.get_config_option("GDAL_INGESTED_BYTES_AT_OPEN") == "999"
            assert rasterio.env.getenv()["GDAL_HTTP_MAX_RETRY"] == 9

    def test_the_process_configuration_wins_and_comes_back(self, sandbox, monkeypatch):
        monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "5")
        prefix = f"/vsicurl/{sandbox.origin}/"
        theirs = AppliedOptions()
        theirs.apply({(None, S3_REDIRECT): "YES", (prefix, "GDAL_HTTP_CONNECTTIMEOUT"): "77"})
        try:
            env = terrascope_env()
            with pytest.warns(TerrascopeWarning, match=S3_REDIRECT):
                env.__enter__()
            assert libgdal.get_path_option(prefix, "GDAL_HTTP_MAX_RETRY") == "5"
            assert libgdal.get_config_option(S3_REDIRECT) == "NO"
            env.__exit__()
            assert libgdal.get_config_option(S3_REDIRECT) == "YES"
            assert libgdal.get_path_option(prefix, "GDAL_HTTP_CONNECTTIMEOUT") == "77"
        finally:
            theirs.apply({})

    def test_blocks_may_end_in_any_order(self, sandbox):
        prefix = f"/vsicurl/{sandbox.origin}/"
        first = terrascope_env(GDAL_HTTP_MAX_RETRY=1)
        second = terrascope_env(GDAL_HTTP_MAX_RETRY=2, GDAL_INGESTED_BYTES_AT_OPEN=1000)
        first.__enter__()
        second.__enter__()
        assert libgdal.get_path_option(prefix, "GDAL_HTTP_MAX_RETRY") == "2"
        first.__exit__()
        assert libgdal.get_path_option(prefix, "GDAL_HTTP_MAX_RETRY") == "2"
        assert libgdal.get_config_option("GDAL_INGESTED_BYTES_AT_OPEN") == "1000"
        second.__exit__()
        assert options_set(sandbox) == {}
        assert not rasterio.env.hasenv()
