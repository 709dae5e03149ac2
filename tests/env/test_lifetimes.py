"""Reads that last longer than a token."""

import threading
import time

import pytest
import rasterio
from rasterio.errors import RasterioIOError

from helpers import grants, read_until, refreshed, some_windows, tokens_sent
from rio_terrascope import terrascope_env
from rio_terrascope.gdal import cache


@pytest.mark.fault("tokens of 2 seconds", sees="right pixels", requests="1 a second")
def test_one_dataset_over_four_token_lifetimes(fleeting):
    url = fleeting.url()
    with terrascope_env(), rasterio.open(url) as src:
        opened = time.time()
        # tokens of 2 s are refreshed after 1 s, so nine refreshes are more than four lifetimes
        read_until(src, fleeting.file(), fleeting, refreshed(9), forget=lambda: cache.forget(url))
        assert time.time() - opened > 4 * 2.0
    requests = fleeting.requests()
    assert grants(requests, "password") == 1
    assert tokens_sent(fleeting.requests("data")) == {"valid"}
    assert len(fleeting.requests("data")) > 50


def test_the_plain_way_fails_there(fleeting):
    """Shows that the test above can fail: with GDAL_HTTP_HEADERS, an open dataset keeps its first token."""
    url = fleeting.url()
    with terrascope_env() as env:
        token = env.token.access_token

    def read_for_long(src):
        for window in some_windows(1000):
            src.read(1, window=window)
            cache.forget(url)
            time.sleep(0.01)

    with (
        rasterio.Env(GDAL_HTTP_HEADERS=f"Authorization: Bearer {token}"),
        rasterio.open(url) as src,
        pytest.raises(RasterioIOError),
    ):
        read_for_long(src)


def test_reads_go_on_while_the_login_service_is_down(fleeting):
    url = fleeting.url()
    with terrascope_env() as env, rasterio.open(url) as src:
        first = env.token
        fleeting.fail(503, times=None, server="sso")

        def two_failures(requests):
            return sum(r.status == 503 for r in requests if r.server == "sso") >= 2

        read_until(src, fleeting.file(), fleeting, two_failures, forget=lambda: cache.forget(url))
        assert env.token is first  # still valid, and the reads noticed no trouble
        fleeting.heal()
        read_until(src, fleeting.file(), fleeting, refreshed(5), forget=lambda: cache.forget(url))
        assert env.token is not first
    assert tokens_sent(fleeting.requests("data")) == {"valid"}
    assert grants(fleeting.requests(), "password") == 1


def test_a_session_that_was_ended_is_followed_by_a_password_grant(fleeting):
    url = fleeting.url()
    replaced = threading.Event()
    with terrascope_env() as env, rasterio.open(url) as src:
        first = env.token
        fleeting.end_sessions()
        env.tokens.subscribe(lambda token: token == first or replaced.set())
        assert replaced.wait(10)
        assert grants(fleeting.requests(), "password") == 2
        fleeting.clear()
        read_until(src, fleeting.file(), fleeting, refreshed(1), forget=lambda: cache.forget(url))
    assert tokens_sent(fleeting.requests("data")) == {"valid"}
