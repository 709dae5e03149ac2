"""`env.open` recovers once from a lapsed login, and raises a plain error if it cannot recover."""

import threading

import pytest
import rasterio
from rasterio.errors import RasterioIOError

from helpers import assert_same_pixels, grants, some_windows, tokens_sent
from rio_terrascope import AccessDeniedError, Token, TokenEndpointError, terrascope_env
from rio_terrascope.opening.refusals import servers_reason

SCOPES = pytest.mark.parametrize("scope", ["origins", "env"])


@SCOPES
@pytest.mark.parametrize("answer", ["401", "login page"])
def test_a_revoked_token_is_replaced(sandbox, local, scope, answer):
    sandbox.login_page(answer == "login page")
    with terrascope_env(scope=scope) as env:
        sandbox.revoke_tokens()
        with pytest.raises(RasterioIOError):
            rasterio.open(sandbox.url())
        with env.open(sandbox.url()) as src:
            assert_same_pixels(src, local, some_windows(2))
    assert grants(sandbox.requests(), "password") == 1
    assert grants(sandbox.requests(), "refresh_token") == 1


@SCOPES
def test_a_session_that_ended_is_replaced(sandbox, scope):
    with terrascope_env(scope=scope) as env:
        sandbox.end_sessions()
        env.open(sandbox.url()).close()
    assert grants(sandbox.requests(), "password") == 2


def test_twenty_threads_share_one_recovery(sandbox, in_threads):
    with terrascope_env() as env:
        sandbox.revoke_tokens()
        in_threads(*[lambda n=n: env.open(f"{sandbox.url()}?{n}").close() for n in range(20)])
    assert grants(sandbox.requests(), "refresh_token") == 1


def test_a_token_revoked_between_the_first_two_requests_of_an_open(sandbox):
    """GDAL then reports that the file is not a raster."""
    sandbox.fail(401, times=None, method="GET", body="{}", content_type="application/json")
    with terrascope_env() as env, pytest.raises(AccessDeniedError, match="401"):
        env.open(sandbox.url())
    assert grants(sandbox.requests(), "refresh_token") == 1


def test_refresh_helps_plain_opens_too(sandbox):
    with terrascope_env() as env:
        sandbox.revoke_tokens()
        with pytest.raises(RasterioIOError):
            rasterio.open(sandbox.url())
        first = env.token
        assert env.refresh() is env.token
        assert env.token is not first
        rasterio.open(sandbox.url()).close()


@SCOPES
def test_a_url_that_stays_refused(sandbox, scope):
    sandbox.fail(401, times=None, match=".tif")
    with terrascope_env(scope=scope) as env:
        with pytest.raises(AccessDeniedError) as raised:
            env.open(sandbox.url())
        assert grants(sandbox.requests(), "refresh_token") == 1
        sandbox.heal()
        env.open(sandbox.url()).close()  # GDAL does not remember the failure
    assert sandbox.url() in str(raised.value)
    assert "401" in str(raised.value)
    assert "Next:" in str(raised.value)
    assert (raised.value.url, raised.value.status) == (sandbox.url(), 401)
    assert "accept its licence" in raised.value.next_step


@pytest.mark.parametrize(
    ("challenge", "said"),
    [
        ('Bearer error="invalid_token", error_description="It has expired."', ": It has expired"),
        ('Bearer realm="x", error="invalid_token"', ": invalid_token"),
        ('Bearer error_description="bad s3cret\t"', ""),
        ('Basic realm="x"', ""),
        (None, ""),
    ],
)  # fmt: skip
def test_the_servers_own_words(challenge, said):
    import responses

    url = "https://data.example/x.tif"
    with responses.RequestsMock() as mock:
        mock.get(url, status=401, headers={"WWW-Authenticate": challenge} if challenge else {})
        assert servers_reason(f"/vsicurl/{url}", Token("s3cret", 0.0)) == said
    assert servers_reason("https://127.0.0.1:9/x.tif", Token("s3cret", 0.0)) == ""


def test_a_login_page_that_stays(sandbox):
    sandbox.fail(200, times=None, match=".tif", body="<html>Log in</html>", content_type="text/html")
    with terrascope_env() as env, pytest.raises(AccessDeniedError, match="login page") as raised:
        env.open(sandbox.url())
    assert raised.value.status == 200


@SCOPES
def test_no_licence(sandbox, scope):
    sandbox.deny("WORLDCOVER")
    with terrascope_env(scope=scope) as env, pytest.raises(AccessDeniedError, match="403") as raised:
        env.open(sandbox.url())
    assert "licence" in str(raised.value)
    assert raised.value.status == 403
    assert grants(sandbox.requests(), "refresh_token") == 0


@pytest.mark.parametrize("status", [404, 500, 503])
def test_other_trouble_raises_rasterios_error(sandbox, status):
    sandbox.fail(status, times=None, match=".tif")
    with (
        terrascope_env(GDAL_HTTP_MAX_RETRY=1, GDAL_HTTP_RETRY_DELAY=0.01) as env,
        pytest.raises(RasterioIOError, match=str(status)),
    ):
        env.open(sandbox.url())
    assert len(sandbox.requests("sso")) == 1


@pytest.mark.parametrize("login_page", [False, True])
def test_a_file_that_is_not_a_raster_raises_rasterios_error(sandbox, tmp_path, login_page):
    sandbox.login_page(login_page)  # only for requests without a valid token
    text = tmp_path / "readme.txt"
    text.write_text("not a raster " * 100)
    with terrascope_env() as env, pytest.raises(RasterioIOError, match="not recognized"):
        env.open(sandbox.add_file(text, "/download/readme.txt"))
    assert len(sandbox.requests("sso")) == 1


def test_open_survives_short_trouble(sandbox, local):
    with terrascope_env(GDAL_HTTP_RETRY_DELAY=0.05):
        sandbox.fail(503, times=2)
        with rasterio.open(sandbox.url()) as src:
            sandbox.fail(502, times=1)
            sandbox.reset(times=1)
            assert_same_pixels(src, local, some_windows(5))


def test_open_does_not_wait_for_a_refresh_while_the_token_is_valid(sandbox):
    with terrascope_env() as env:
        sandbox.hang(times=None, server="sso")
        refresher = threading.Thread(target=env.refresh, daemon=True)
        refresher.start()
        sandbox.wait_for(lambda requests: len(requests) == 2, server="sso")
        env.open(sandbox.url()).close()  # would hang if it waited
        assert refresher.is_alive()
        sandbox.heal()
        refresher.join(30)
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


def test_the_first_login_survives_short_trouble(sandbox):
    sandbox.fail(503, times=1, server="sso", headers={"Retry-After": "0"})
    sandbox.fail(429, times=1, server="sso", headers={"Retry-After": "0"})
    sandbox.reset(times=1, server="sso")
    with terrascope_env() as env:
        env.open(sandbox.url()).close()
    assert len(sandbox.requests("sso")) == 4


def test_a_login_service_that_stays_down(sandbox):
    sandbox.fail(503, times=None, server="sso", headers={"Retry-After": "0"})
    with pytest.raises(TokenEndpointError, match="503, 4 times"), terrascope_env():
        pass


def test_scope_env_is_renewed_between_opens(sandbox, local):
    with terrascope_env(scope="env") as env:
        for _ in range(3):
            sandbox.expire_tokens()
            env.refresh()
            with rasterio.open(sandbox.url()) as src:
                assert_same_pixels(src, local, some_windows(1))
            rasterio.open(sandbox.url() + "?plain").close()
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


def test_scope_env_in_worker_threads(sandbox, in_threads):
    with terrascope_env(scope="env") as env:
        in_threads(*[lambda n=n: env.open(f"{sandbox.url()}?{n}").close() for n in range(8)])
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


def test_gdal_that_cannot_scope_falls_back_with_a_warning(sandbox, local, monkeypatch):
    from rio_terrascope import TerrascopeWarning
    from rio_terrascope.gdal import libgdal

    monkeypatch.setattr(libgdal, "why_not_scoped", lambda: "GDAL 3.6.0 is older than 3.7")
    with pytest.warns(TerrascopeWarning, match=r"GDAL 3\.6\.0 is older.*every host") as warned:
        env = terrascope_env()
    assert warned[0].filename == __file__
    with env, env.open(sandbox.url()) as src:
        assert env.scope == "env"
        assert_same_pixels(src, local, some_windows(1))
        if rasterio.__version__ >= "1.5":  # before 1.5, GDAL could not be made to forget the 401
            sandbox.revoke_tokens()
            env.open(sandbox.url() + "?2").close()
