"""Boxes, points and blocks are turned into the right pixels."""

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from rio_terrascope.reading import block_windows, bounds_window
from rio_terrascope.reading.grid import pixels_of


@pytest.fixture(scope="module")
def tile(tiles):
    with rasterio.open(tiles[0]) as dataset:
        yield dataset


def test_a_box_on_pixel_edges_has_its_exact_size(tile):
    rng = np.random.default_rng(0)
    for _ in range(2000):
        column, row = (int(part) for part in rng.integers(0, 35000, 2))
        width, height = (int(part) for part in rng.integers(1, 1000, 2))
        box = (6 + column / 12000, 3 - (row + height) / 12000, 6 + (column + width) / 12000, 3 - row / 12000)
        assert bounds_window(tile, box) == Window(column, row, width, height)


def test_a_pixel_that_the_box_touches_is_in(tile):
    pixel = 1 / 12000
    box = (6 + 9.5 * pixel, 3 - 20.01 * pixel, 6 + 11.001 * pixel, 3 - 19.99 * pixel)
    assert bounds_window(tile, box) == Window(9, 19, 3, 2)


def test_a_box_over_the_edge_is_clipped(tile):
    assert bounds_window(tile, (5, 2.9, 6.1, 4)) == Window(0, 0, 1200, 1200)


@pytest.mark.parametrize(
    ("box", "word"),
    [
        ((9, 0, 10, 1), "outside"),  # has an edge in common with the raster, but no pixel
        ((5, 0, 6, 1), "outside"),
        ((7, 1, 7, 2), "west"),
        ((7, 2, 8, 1), "south"),
        ((170, 0, -170, 1), "antimeridian"),
        ((7, 1, float("nan"), 2), "finite"),
        ((7, 1, 8), "four numbers"),
    ],
)
def test_boxes_that_make_no_sense(tile, box, word):
    with pytest.raises(ValueError, match=word):
        bounds_window(tile, box)


def test_a_box_in_another_crs_covers_what_it_names(metres):
    with rasterio.open(metres) as dataset:
        bounds = rasterio.warp.transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
        assert bounds_window(dataset, bounds) == Window(0, 0, 700, 700)
        assert bounds_window(dataset, (600_010, 5_699_980, 600_030, 5_700_000), crs=None) == Window(
            1, 0, 2, 2
        )


def test_points_on_borders_belong_to_the_pixel_right_and_below():
    columns = np.arange(36000)
    x, y = 6 + columns / 12000, 3 - columns / 12000
    rows, found, inside = pixels_of(x, y, from_origin(6, 3, 3 / 36000, 3 / 36000), 36000, 36000)
    assert inside.all()
    np.testing.assert_array_equal(found, columns)
    np.testing.assert_array_equal(rows, columns)


def test_right_and_bottom_edges_and_nan_are_outside():
    x = np.array([9.0, 7.0, 5.9999999, np.nan, np.inf, 6.0])
    y = np.array([1.0, 0.0, 1.0, 1.0, 1.0, 3.0])
    inside = pixels_of(x, y, from_origin(6, 3, 3 / 36000, 3 / 36000), 36000, 36000)[2]
    np.testing.assert_array_equal(inside, [False, False, False, False, False, True])


@pytest.mark.parametrize("blocks", [(1, 1), (2, 3)])
def test_block_windows_tile_a_window_along_block_edges(blocks):
    window = Window(100, 200, 777, 555)
    seen = np.zeros((1024, 1024), int)
    for piece in block_windows(window, (128, 64), blocks=blocks):
        rows, columns = piece.toslices()
        seen[rows, columns] += 1
        height, width = 128 * blocks[0], 64 * blocks[1]
        assert rows.start // height == (rows.stop - 1) // height
        assert columns.start // width == (columns.stop - 1) // width
    expected = np.zeros_like(seen)
    expected[window.toslices()] = 1
    np.testing.assert_array_equal(seen, expected)
