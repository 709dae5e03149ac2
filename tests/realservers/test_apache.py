"""Apache httpd with mod_auth_openidc, and django-oauth-toolkit: whole jobs, over many token lifetimes."""

import os
import subprocess
import time

import numpy as np
import pytest
import rasterio
import requests

from helpers import RIO, TSREAD, assert_same_pixels, keep_no_blocks, some_windows
from realservers.servers import PASSWORD, TILE_PATH, USERNAME
from rio_terrascope import (
    AccessDeniedError,
    InvalidCredentialsError,
    TokenSource,
    read_windows,
    terrascope_env,
)
from rio_terrascope.gdal import cache

pytestmark = pytest.mark.realservers


def statuses(server):
    return {line.split()[1] for line in server.requests()}


def ask(url, token=None):
    headers = {"Range": "bytes=0-99"} | ({"Authorization": f"Bearer {token}"} if token else {})
    return requests.get(url, headers=headers, timeout=10)


def test_the_server_checks_tokens(apache, identity):
    """The other tests rely on ranges, on refusals without a token, and on tokens that expire."""
    url = apache.url + TILE_PATH
    token = TokenSource().get()
    answer = ask(url, token.access_token)
    assert (answer.status_code, len(answer.content)) == (206, 100)
    for worthless in (None, "made-up"):
        answer = ask(url, worthless)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    deadline = token.expires_at + 5
    while ask(url, token.access_token).status_code == 206 and time.time() < deadline:
        time.sleep(0.1)
    assert token.expires_at - 1.1 < time.time() < deadline
    assert ask(url, token.access_token).status_code == 401


def test_an_open_dataset_reads_on_over_many_lifetimes(apache, identity, local):
    url = apache.url + TILE_PATH
    with terrascope_env(), keep_no_blocks(), rasterio.open(url) as src:
        for window in some_windows(1_000_000, seed=5):
            assert_same_pixels(src, local, [window])
            cache.forget(url)
            if identity.requests().count("refresh_token 200") >= 4:
                break
            time.sleep(0.05)
    assert set(identity.requests()) == {"password 200", "refresh_token 200"}
    assert identity.requests().count("password 200") == 1
    assert statuses(apache) <= {"200", "206"}
    assert len(apache.requests()) > 20
    assert {line.split()[-1] for line in apache.requests()} == {"researcher"}


def test_many_windows_at_once(apache, identity, local):
    url = apache.url + TILE_PATH
    windows = list(some_windows(200, seed=6))
    with terrascope_env():
        for window, pixels in zip(windows, read_windows([(url, w) for w in windows]), strict=True):
            np.testing.assert_array_equal(pixels.squeeze(), local.read(1, window=window))
    assert statuses(apache) <= {"200", "206"}


def test_a_refused_password_is_sent_once(apache, identity):
    with pytest.raises(InvalidCredentialsError, match=r"researcher was refused: Invalid credentials given"):
        terrascope_env(USERNAME, "not the password").__enter__()
    assert identity.requests() == ["password 400"]
    assert apache.requests() == []


def test_a_refresh_token_that_was_used_elsewhere(apache, identity, local):
    """The endpoint then ends the session, and the work goes on with a new one."""
    url = apache.url + TILE_PATH
    with terrascope_env() as env:
        stolen = env.token.refresh_token
        env.refresh()
        form = {"grant_type": "refresh_token", "client_id": "public", "refresh_token": stolen}
        answer = requests.post(f"{identity.url}/o/token/", data=form, timeout=10)
        assert answer.status_code == 400
        env.refresh()
        with rasterio.open(url) as src:
            assert_same_pixels(src, local, some_windows(1))
    assert identity.requests()[:5] == [
        "password 200", "refresh_token 200", "refresh_token 400", "refresh_token 400", "password 200",
    ]  # fmt: skip


def test_the_servers_reason_is_in_the_error(apache, identity, monkeypatch):
    monkeypatch.setenv("TERRASCOPE_ORIGINS", apache.refusing_url)
    with terrascope_env() as env, pytest.raises(AccessDeniedError) as caught:
        env.open(apache.refusing_url + TILE_PATH)
    message = str(caught.value)
    assert "401" in message
    assert "(Unauthorized): Reference token could not be introspected, although" in message
    assert "Next: " in message
    assert identity.requests()[:2] == ["password 200", "refresh_token 200"]


def test_this_machine_is_read_without_the_proxy(apache, proxy, monkeypatch, local):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    with terrascope_env() as env, env.open(apache.url + TILE_PATH) as src:
        assert_same_pixels(src, local, some_windows(1))
    assert not any("Request" in line for line in proxy.requests())


def test_commands(apache, identity, tmp_path):
    def run(*arguments):
        done = subprocess.run(
            [TSREAD, *arguments], env=os.environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout

    url = apache.url + TILE_PATH
    assert run("exec", "--", RIO, "info", "--shape", url).split() == ["36000", "36000"]
    assert run("exec", "--all-hosts", "--", RIO, "info", "--shape", url).split() == ["36000", "36000"]
    assert "36000" in run("info", url)
    assert "a block was read" in run("doctor", url)
    assert statuses(apache) <= {"200", "206", "404"}  # doctor requests / too, which does not exist
