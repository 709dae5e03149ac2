"""Proxies: http:// URLs, which are always on this machine, are not sent through one."""

import os
import subprocess

import pytest
import rasterio

from helpers import RIO, TSREAD, assert_same_pixels, some_windows
from rio_terrascope import stac, terrascope_env
from rio_terrascope.settings import stays_here


@pytest.fixture
def nowhere(monkeypatch):
    """A proxy that does not exist, so that requests through it fail."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nowhere")
def test_the_catalogue_is_read_without_the_proxy(sandbox):
    assert stac.open_catalog().id


@pytest.mark.usefixtures("nowhere")
def test_this_machine_is_read_without_the_proxy(sandbox, local):
    with terrascope_env() as env:
        env.refresh()
        with env.open(sandbox.url()) as src:
            assert_same_pixels(src, local, some_windows(1))
    with pytest.raises(rasterio.RasterioIOError, match="CURL error"):  # restored
        rasterio.open(sandbox.other_url("?not-known-to-gdal-yet"))


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("command", [["doctor"], ["exec", "--", RIO, "info", "--shape"]])
def test_the_commands_read_without_the_proxy(sandbox, command):
    done = subprocess.run(
        [TSREAD, *command, sandbox.url()], env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "36000" in done.stdout


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("http://127.0.0.1:8000/token", True),
        ("http://localhost", True),
        ("http://[::1]:8000/", True),
        ("https://127.0.0.1/", False),
        ("http://example.org/", False),
    ],
)
def test_local_urls(url, answer):
    assert stays_here(url) is answer
