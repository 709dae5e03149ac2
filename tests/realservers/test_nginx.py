"""nginx with TLS from a private authority, in front of the login too, and a proxy: one setting for each."""

import json
import os
import subprocess

import certifi
import numpy as np
import pytest
import rasterio

from helpers import RIO, TSREAD, assert_same_pixels, some_windows
from realservers import servers
from realservers.servers import PASSWORD, TILE_PATH, connects
from rio_terrascope import TokenEndpointError, certificates, read_windows, terrascope_env
from rio_terrascope.gdal import cache

pytestmark = pytest.mark.realservers


def statuses(server):
    return {line.split()[1] for line in server.requests()}


@pytest.mark.parametrize("variable", certificates.VARIABLES)
def test_one_variable_is_enough(nginx, identity, authority, monkeypatch, local, variable):
    monkeypatch.setenv(variable, str(authority / "ca.pem"))
    url = nginx.url + TILE_PATH
    with terrascope_env() as env:
        env.refresh()
        with env.open(url) as src:
            assert_same_pixels(src, local, some_windows(3))
    assert identity.requests()[:2] == ["password 200", "refresh_token 200"]
    assert statuses(nginx) <= {"200", "206"}


def test_without_the_variable_nothing_is_sent(nginx, identity):
    with pytest.raises(TokenEndpointError, match=r"not signed by an authority known here.*SSL_CERT_FILE"):
        terrascope_env().__enter__()
    assert identity.requests() == nginx.requests() == []


def test_without_a_token_it_is_refused(nginx, authority, monkeypatch):
    monkeypatch.setenv("GDAL_CURL_CA_BUNDLE", str(authority / "ca.pem"))
    with pytest.raises(rasterio.RasterioIOError, match="401"):
        rasterio.open(nginx.url + TILE_PATH)


def assert_windows_right(url, local, windows):
    """Read windows in bulk, compare them with the file, and let GDAL forget them."""
    for window, pixels in zip(windows, read_windows([(url, w) for w in windows]), strict=True):
        np.testing.assert_array_equal(pixels.squeeze(), local.read(1, window=window))
    cache.forget(url)


@pytest.fixture
def trusted(nginx, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    return nginx


def test_many_windows_over_several_lifetimes(trusted, identity, local):
    url = trusted.url + TILE_PATH
    windows = list(some_windows(60, seed=8))
    with terrascope_env():
        while identity.requests().count("refresh_token 200") < 2:
            assert_windows_right(url, local, windows)
    assert statuses(trusted) <= {"200", "206"}


def test_an_endpoint_that_ends_the_old_token_at_once(tiles, authority, monkeypatch, trusted, local):
    """A request already sent with the old token gets a 401, and the window is read again."""
    with (
        servers.identity(2, keep=False) as strict,
        servers.nginx(tiles[0], strict, authority / "server.pem") as nginx,
    ):
        monkeypatch.setenv("TERRASCOPE_TOKEN_URL", f"{nginx.login_url}/o/token/")
        monkeypatch.setenv("TERRASCOPE_ORIGINS", nginx.url)
        url = nginx.url + TILE_PATH
        windows = list(some_windows(60, seed=9))
        with terrascope_env():
            while strict.requests().count("refresh_token 200") < 3:
                assert_windows_right(url, local, windows)
        assert statuses(nginx) - {"401"} <= {"200", "206"}
        assert strict.requests().count("password 200") == 1


def run(*arguments, code=0):
    done = subprocess.run(
        [TSREAD, *arguments], env=os.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    return done


def test_a_gdal_program(trusted):
    done = run("exec", "--", RIO, "info", "--shape", trusted.url + TILE_PATH)
    assert done.stdout.split() == ["36000", "36000"]


def doctor(url, code=0):
    steps = json.loads(run("doctor", url, "--json", code=code).stdout)["steps"]
    return {step["step"]: step for step in steps}


def test_doctor(trusted, monkeypatch):
    url = trusted.url + TILE_PATH
    assert doctor(url)["GDAL"]["state"] == "ok"
    monkeypatch.setenv("CURL_CA_BUNDLE", certifi.where())  # it precedes SSL_CERT_FILE for both
    for step in ("login host", "data host"):
        found = doctor(url, code=1)[step]
        assert found["state"] == "failed"
        assert "which CURL_CA_BUNDLE names" in found["what"]
    monkeypatch.delenv("CURL_CA_BUNDLE")
    monkeypatch.delenv("SSL_CERT_FILE")
    found = doctor(url, code=1)["login host"]
    assert "not signed by an authority known here" in found["what"]
    assert "SSL_CERT_FILE" in found["next"]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_one_variable_sets_the_proxy(trusted, identity, proxy, monkeypatch, local, variable):
    monkeypatch.setenv(variable, proxy.url)
    with terrascope_env() as env:
        env.refresh()
        with env.open(trusted.url + TILE_PATH) as src:
            assert_same_pixels(src, local, some_windows(5))
    assert connects(proxy, trusted.login_url) == len(identity.requests())  # one for each token
    assert connects(proxy, trusted.url) == 2  # the look, and one that GDAL keeps open
    assert PASSWORD not in "".join(proxy.requests())


def test_apache_through_the_proxy(trusted, apache, identity, proxy, monkeypatch, local):
    monkeypatch.setenv("TERRASCOPE_TOKEN_URL", f"{trusted.login_url}/o/token/")
    monkeypatch.setenv("TERRASCOPE_ORIGINS", f"{apache.tls_url},{trusted.url}")
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with terrascope_env() as env:
        for server in (apache.tls_url, trusted.url):
            with env.open(server + TILE_PATH) as src:
                assert_same_pixels(src, local, some_windows(3))
            assert connects(proxy, server) >= 1
    assert connects(proxy, trusted.login_url) == len(identity.requests())
    assert statuses(apache) == statuses(trusted) <= {"200", "206"}


def test_a_gdal_program_uses_the_proxy_too(trusted, identity, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    run("exec", "--", RIO, "info", trusted.url + TILE_PATH)
    assert connects(proxy, trusted.login_url) == len(identity.requests())
    assert connects(proxy, trusted.url) >= 1


def test_doctor_sees_the_proxy(trusted, proxy, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    assert "through a proxy" in doctor(trusted.url + TILE_PATH)["login host"]["what"]


@pytest.mark.parametrize("exception", ["127.0.0.1", "example.org,127.0.0.0/8", "*"])
def test_no_proxy_avoids_the_proxy(trusted, proxy, monkeypatch, local, exception):
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", exception)
    with terrascope_env() as env, env.open(trusted.url + TILE_PATH) as src:
        assert_same_pixels(src, local, some_windows(1))
    assert connects(proxy, trusted.login_url) == connects(proxy, trusted.url) == 0


def test_a_proxy_for_http_is_not_used_for_https(trusted, proxy, monkeypatch, local):
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    with terrascope_env() as env, env.open(trusted.url + TILE_PATH) as src:
        assert_same_pixels(src, local, some_windows(1))
    assert connects(proxy, trusted.login_url) == connects(proxy, trusted.url) == 0


def test_an_unreachable_proxy(trusted, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr("rio_terrascope.auth.oidc.ATTEMPTS", 1)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(TokenEndpointError, match="HTTPS_PROXY"):
        terrascope_env().__enter__()
    assert trusted.requests() == []
