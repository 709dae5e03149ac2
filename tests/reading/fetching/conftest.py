"""A fetcher, and servers of plain sockets."""

import contextlib
import random

import pytest
import rasterio

from raw_server import RawServer
from rio_terrascope import terrascope_env
from rio_terrascope.reading.fetching import Fetcher

CONTENT = random.Random(1).randbytes(300_000)


@pytest.fixture
def fetcher():
    with Fetcher() as fetcher:
        yield fetcher


@pytest.fixture
def env(sandbox):
    with terrascope_env() as env:
        yield env


@pytest.fixture
def raw():
    """Start servers of plain sockets."""
    with contextlib.ExitStack() as stack:
        yield lambda answer, content=CONTENT: stack.enter_context(RawServer(answer, content))


@pytest.fixture
def fetch(fetcher):
    """Ask for ranges of a URL or source, and return what has come, in the order of the offsets."""

    def fetch(file, *ranges, by=fetcher):
        source = by.open(file) if isinstance(file, str) else file
        by.ask(source, ranges)
        found = [by.next(60) for _ in ranges]
        assert by.waiting == 0
        return sorted(found, key=lambda one: (one.offset, one.length))

    return fetch


@pytest.fixture
def quick():
    """GDAL's options for little patience."""
    with rasterio.Env(GDAL_HTTP_RETRY_DELAY="0.02", GDAL_HTTP_MAX_RETRY="3"):
        yield
