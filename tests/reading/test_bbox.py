"""read_bbox returns rasterio's pixels, and a profile that says where they are."""

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope import AccessDeniedError, read_bbox

BOX = (6.5, 0.25, 6.75, 0.5)
WINDOW = Window(6000, 30000, 3000, 3000)


def test_native_pixels_over_http(server, inside, tiles):
    array, profile = read_bbox(server.url(), BOX)
    with rasterio.open(tiles[0]) as local:
        np.testing.assert_array_equal(array, local.read(window=WINDOW))
        assert profile["transform"].almost_equals(local.window_transform(WINDOW))
        assert profile["crs"] == local.crs
        assert profile["nodata"] == local.nodata
    assert (profile["count"], profile["height"], profile["width"]) == array.shape


@pytest.mark.parametrize(("rows", "slack"), [(2, 40), (1, 64)])
def test_one_box_takes_few_requests_and_bytes(server, inside, data_requests, tiles, rows, slack):
    # a single range of the file is read in chunks of 16 KB; of several ranges GDAL reads exactly the bytes
    with rasterio.open(tiles[0]) as local:
        sizes = np.array(
            [
                [int(local.get_tag_item(f"BLOCK_SIZE_{c}_{r}", "TIFF", bidx=1) or 0) for c in range(36)]
                for r in range(36)
            ]
        )
    needed = sizes[:, :-1] + sizes[:, 1:]
    if rows == 2:
        needed = needed[:-1] + needed[1:]
    row, column = np.unravel_index(needed.argmax(), needed.shape)
    west, north = 6 + (column + 0.9) * 1024 / 12000, 3 - (row + (0.9 if rows == 2 else 0.1)) * 1024 / 12000
    array, _ = read_bbox(server.url(), (west, north - 400 / 12000, west + 400 / 12000, north))
    assert array.any()
    requests = data_requests()
    assert len(requests) <= 4
    assert sum(request.sent for request in requests) <= needed.max() + slack * 1024


def test_the_result_can_be_written(tiles, tmp_path):
    array, profile = read_bbox(tiles[0], BOX, max_size=100)
    with rasterio.open(tmp_path / "box.tif", "w", **profile) as target:
        target.write(array)
    with rasterio.open(tmp_path / "box.tif") as written:
        np.testing.assert_array_equal(written.read(), array)
        np.testing.assert_allclose(written.bounds, BOX, atol=1e-9)


@pytest.mark.parametrize(
    ("max_size", "shape"), [(1000, (1000, 1000)), (3000, (3000, 3000)), (9999, (3000, 3000))]
)
def test_max_size(tiles, max_size, shape):
    array, profile = read_bbox(tiles[0], BOX, max_size=max_size)
    assert array.shape[1:] == shape
    assert profile["transform"].a == pytest.approx(0.25 / shape[1])
    with rasterio.open(tiles[0]) as local, rasterio.Env(GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD="1"):
        np.testing.assert_array_equal(array, local.read(window=WINDOW, out_shape=(1, *shape)))


@pytest.mark.parametrize(
    ("resolution", "size"), [(1 / 12000, 3000), (1 / 4000, 1000), (1 / 5000, 1250), (1e-9, 3000), (1.0, 1)]
)
def test_pixels_are_at_most_as_large_as_the_resolution(tiles, resolution, size):
    array, profile = read_bbox(tiles[0], BOX, resolution=resolution)
    assert array.shape == (1, size, size)
    assert profile["transform"].a * size == pytest.approx(0.25)


def test_an_overview_that_is_too_coarse_is_not_used(metres):
    # factor 3.5: GDAL would take the overview of 4 and repeat pixels of it
    bounds = (600_000, 5_693_000, 607_000, 5_700_000)
    array, _ = read_bbox(metres, bounds, crs=None, resolution=35.0)
    assert array.shape == (3, 200, 200)
    with rasterio.open(metres) as local:
        too_coarse = local.read(out_shape=(3, 200, 200))
    # the overview of 2, in which 1.75 pixels go into one
    with rasterio.open(metres, overview_level=0) as level:
        at = ((np.arange(200) + 0.5) * 1.75).astype(int)
        np.testing.assert_array_equal(array, level.read()[:, at][:, :, at])
    assert (array != too_coarse).any()


def test_bands_and_masks(metres):
    bounds = (600_000, 5_699_800, 600_200, 5_700_000)
    array, profile = read_bbox(metres, bounds, crs=None, indexes=[3, 1], masked=True)
    with rasterio.open(metres) as local:
        expected = local.read([3, 1], window=Window(0, 0, 20, 20), masked=True)
    np.testing.assert_array_equal(array.data, expected.data)
    np.testing.assert_array_equal(array.mask, expected.mask)
    assert array.mask.sum() == 2 * 16
    assert profile["count"] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"indexes": 4}, {"indexes": [0]}, {"indexes": []}, {"resolution": 0}, {"resolution": float("nan")},
        {"max_size": 0}, {"max_size": 10, "resolution": 1},
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense(metres, arguments):
    with pytest.raises(ValueError, match=r"indexes|resolution|max_size"):
        read_bbox(metres, (600_000, 5_699_000, 601_000, 5_700_000), crs=None, **arguments)


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AccessDeniedError), (403, AccessDeniedError), (404, RasterioIOError)]
)
def test_errors_name_the_url(server, inside, noise, status, kind):
    url = server.add_file(noise, f"refused-{status}.tif")
    server.fail(status, times=None, match="refused")
    with pytest.raises(kind, match=f"refused-{status}.tif.*{status}"):
        read_bbox(url, (1, 1, 2, 2))
