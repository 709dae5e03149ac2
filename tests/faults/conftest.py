"""Shared by the tests of faults: windows to read, a login that does not wait, the rows of README's table."""

import itertools
import re
import time
from collections import namedtuple

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from helpers import Clock
from rio_terrascope import Settings, TokenSource
from rio_terrascope.auth.oidc import TokenEndpoint

Land = namedtuple("Land", "window pixels")


class Row:
    """The row of README's table in a test's marker, which the test compares with what happened."""

    def __init__(self, marker):
        self._sees, self._requests = marker.kwargs["sees"], marker.kwargs["requests"]
        self._kinds = re.findall(r"`(\w+(?:Error|Warning))`", self._sees)
        self._phrases = re.findall(r'"([^"]+)"', self._sees)
        self._limit = re.match(r"(at most )?(\d+)", self._requests)
        self._unchecked = {"sees"} if self._kinds or self._phrases else set()
        self._unchecked |= {"requests"} if self._limit else set()

    def shows(self, shown):
        """Compare an exception, or the text of the log, with the class and the quotations in the marker."""
        if isinstance(shown, BaseException):
            assert type(shown).__name__ in self._kinds
        for phrase in self._phrases:
            assert phrase in str(shown)
        self._unchecked.discard("sees")

    def shows_kind(self, name):
        """Compare only the name of an exception's class with the marker's."""
        assert name in self._kinds
        self._unchecked.discard("sees")

    def costs(self, requests):
        """Compare the number of requests, or a list of requests, with the number in the marker."""
        count = requests if isinstance(requests, int) else len(requests)
        if self._limit[1]:
            assert 0 < count <= int(self._limit[2])
        else:
            assert count == int(self._limit[2])
        self._unchecked.discard("requests")


@pytest.fixture
def row(request):
    """The row of README's table that this test proves. The test must check each of its cells."""
    row = Row(request.node.get_closest_marker("fault"))
    yield row
    assert not row._unchecked, f"not checked: {row._unchecked}"


@pytest.fixture(scope="session")
def lands(tiles):
    """The four windows with most data, and their pixels. Each covers four blocks, which the others do not."""
    with rasterio.open(tiles[0]) as local:
        size, _ = local.block_shapes[0]

        def stored(corner):
            blocks = [(corner[0] + x, corner[1] + y) for x in (0, 1) for y in (0, 1)]
            tags = [local.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=1) for x, y in blocks]
            return sum(int(tag or 0) for tag in tags)

        corners = sorted(itertools.product(range(0, 34, 2), repeat=2), key=stored)[-4:]
        windows = [Window((x + 1) * size - 500, (y + 1) * size - 500, 1000, 1000) for x, y in corners]
        lands = [Land(window, local.read(1, window=window)) for window in windows]
    for land in lands:
        assert (land.pixels != 0).mean() > 0.3, "an empty array would pass for this one"
    return lands


@pytest.fixture
def reads_right(lands):
    """Read land from an open dataset, and compare it with the file.

    Each call reads other blocks, because GDAL does not request those again that it has read.
    """
    unread = itertools.cycle(lands)

    def read(dataset):
        land = next(unread)
        np.testing.assert_array_equal(dataset.read(1, window=land.window), land.pixels)

    return read


@pytest.fixture
def waits():
    """The pauses, in seconds, that a `patient` login would have made between its attempts."""
    return []


@pytest.fixture
def patient(sandbox, waits):
    """Make a login that notes its pauses instead of sleeping."""

    def make(token_url=sandbox.token_url, clock=None, **more):
        settings = Settings.from_environ(token_url=token_url)
        clocks = {"clock": clock.read, "monotonic": clock.read_monotonic} if clock else {}
        endpoint = TokenEndpoint(settings, sleep=waits.append, clock=clocks.get("clock", time.time))
        return TokenSource(settings=settings, endpoint=endpoint, **clocks, **more)

    return make


@pytest.fixture
def clock():
    return Clock()
