"""ESA's own tiles, read through the sandbox: the real files that users read."""

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from helpers import tokens_sent
from rio_terrascope import read_bbox, read_windows, sample, terrascope_env, worldcover
from rio_terrascope.reading import block_windows, bounds_window

pytestmark = pytest.mark.esatiles

BOX = (6.4, 0.0, 7.5, 1.8)  # both islands


@pytest.fixture(params=[2020, 2021])
def year(request):
    return request.param


@pytest.fixture
def url(sandbox, year):
    return sandbox.urls[year - 2020]


@pytest.fixture
def inside(sandbox):
    with terrascope_env() as env:
        yield env
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


@pytest.fixture
def file(tiles, year):
    with rasterio.open(tiles[year - 2020]) as dataset:
        yield dataset


def test_the_header_and_all_overviews(inside, url, file):
    with inside.open(url) as src:
        assert src.profile == file.profile
        assert src.tags() == file.tags()
        assert src.colormap(1) == file.colormap(1)
        for factor in (1, *src.overviews(1)):
            where = Window(6144, 30720, 4096, 4096)
            shape = (4096 // factor, 4096 // factor)
            pixels = src.read(1, window=where, out_shape=shape)
            np.testing.assert_array_equal(pixels, file.read(1, window=where, out_shape=shape))
            assert pixels.any()


def test_every_block_with_land(inside, url, file):
    windows = list(block_windows(bounds_window(file, BOX), file.block_shapes[0]))
    assert len(windows) > 200
    for window, pixels in zip(windows, read_windows((url, window) for window in windows), strict=True):
        np.testing.assert_array_equal(pixels, file.read(window=window))


def test_boxes_and_points(inside, url, file, year):
    window = bounds_window(file, BOX)
    pixels, _ = read_bbox(url, BOX)
    np.testing.assert_array_equal(pixels, file.read(window=window))
    mosaic, _ = worldcover.read(BOX, year)
    np.testing.assert_array_equal(mosaic, pixels)
    points = [(6.61, 0.19), (6.73, 0.34), (7.4, 1.6)]
    np.testing.assert_array_equal(sample(url, points), list(file.sample(points)))
