"""sample: rasterio's values, each block read once, each point's tile found."""

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.warp import transform

from rio_terrascope import AccessDeniedError, sample, terrascope_env

from .conftest import BLOCK, write_noise


def points(count, west=0.0, south=0.0, east=8.0, north=8.0, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.uniform(west, east, count), rng.uniform(south, north, count)])


def rasterio_values(file, where):
    with rasterio.open(file) as local:
        return np.array(list(local.sample(where)))


def test_values_and_mask_over_http(server, inside, tiles):
    where = points(3000, 6.4, 0.0, 7.6, 1.9)
    values = sample(server.url(), where)
    expected = rasterio_values(tiles[0], where)
    np.testing.assert_array_equal(values.data, expected)
    np.testing.assert_array_equal(values.mask, expected == 0)
    assert 0 < values.mask.sum() < len(where)


@pytest.mark.parametrize("count", [1000, 10_000])
def test_every_block_is_fetched_once_however_many_points_fall_in(server, inside, data_requests, noise, count):
    # all points lie in the first three blocks of the second row, and in two blocks with gaps between them
    parts = [points(count, 0, 6, 3, 7), points(count, 4, 2, 5, 3), points(count, 6, 2, 7, 3)]
    where = np.concatenate(parts)
    values = sample(server.url("noise.tif"), where)
    np.testing.assert_array_equal(values.data, rasterio_values(noise, where))
    requests = data_requests()
    assert len(requests) <= 2 + 3  # HEAD, header, the three neighbours together, the two others
    blocks = 5 * BLOCK * BLOCK
    assert sum(request.sent for request in requests) <= blocks + 32768 + 2 * 32768


def test_all_blocks_of_a_file(server, inside, data_requests, noise):
    values = sample(server.url("noise.tif"), points(5000))
    np.testing.assert_array_equal(values.data, rasterio_values(noise, points(5000)))
    # the header, and one request for each row of blocks, rounded up to GDAL's chunks of 16 KB
    assert len(data_requests()) <= 2 + 8
    assert sum(request.sent for request in data_requests()) <= 64 * BLOCK * BLOCK + 32768 + 8 * 16384


def test_requests_grow_with_the_blocks_not_with_the_points(server, inside, data_requests, noise):
    url, counts = server.url("noise.tif"), []
    columns, rows = np.meshgrid(np.arange(0, 8, 2), np.arange(8))  # blocks that are not neighbours
    corners = np.column_stack([columns.ravel(), 7.0 - rows.ravel()])
    for blocks in (4, 16, 32):
        for in_each in (1, 50):
            where = np.concatenate([points(in_each, x, y, x + 1, y + 1) for x, y in corners[:blocks]])
            server.clear()
            with terrascope_env():  # entering clears GDAL's cache
                sample(url, where)
            counts.append(len(data_requests()))
    assert counts[0] == counts[1] <= 4 + 2
    assert counts[2] == counts[3] <= 16 + 2
    assert counts[4] == counts[5] <= 32 + 2


def test_points_on_borders_of_pixels_blocks_and_the_raster(noise):
    edges = np.arange(0, 2048) / 256
    where = np.column_stack([edges, 8 - edges])
    with rasterio.open(noise) as local:
        diagonal = np.diagonal(local.read(1))
    np.testing.assert_array_equal(sample(noise, where).data[:, 0], diagonal)
    outside = sample(noise, [(8.0, 4.0), (4.0, 0.0), (-0.001, 4.0), (4.0, 8.001), (np.nan, 1.0)])
    assert outside.mask.all()
    assert (outside.data == 0).all()


def test_points_are_found_to_their_tile(tmp_path):
    files = [write_noise(tmp_path / f"{i}.tif", west=i, north=1, size=256) for i in range(6)]
    where = points(2000, -0.5, -0.2, 6.5, 1.2)
    values = sample(files, where)
    for i, file in enumerate(files):
        here = (np.floor(where[:, 0]) == i) & (where[:, 1] >= 0) & (where[:, 1] <= 1)
        np.testing.assert_array_equal(values.data[here], rasterio_values(file, where[here]))
    nowhere = (where[:, 0] < 0) | (where[:, 0] >= 6) | (where[:, 1] <= 0) | (where[:, 1] > 1)
    assert values.mask[nowhere].all()
    # the tiles' common edge belongs to the eastern one
    edge = sample(files, [(3.0, 0.5)])
    np.testing.assert_array_equal(edge.data, rasterio_values(files[3], [(3.0, 0.5)]))


def test_where_files_overlap_the_first_counts(tmp_path, noise):
    other = write_noise(tmp_path / "other.tif", west=1, north=7)
    where = points(100, 2, 2, 6, 6)
    np.testing.assert_array_equal(sample([other, noise], where).data, rasterio_values(other, where))
    np.testing.assert_array_equal(sample([noise, other], where).data, rasterio_values(noise, where))


def test_other_crs_and_bands(metres):
    rng = np.random.default_rng(5)
    x, y = rng.uniform(600_000, 607_000, 500), rng.uniform(5_693_000, 5_700_000, 500)
    expected = rasterio_values(metres, np.column_stack([x, y]))
    own = sample(metres, np.column_stack([x, y]), crs=None)
    np.testing.assert_array_equal(own.data, expected)
    degrees = np.column_stack(transform("EPSG:32631", "EPSG:4326", x, y))
    some = sample(metres, degrees, indexes=[3, 1])
    np.testing.assert_array_equal(some.data, expected[:, [2, 0]])
    assert some.dtype == np.int16


def test_masks_of_every_kind(tmp_path):
    where = points(500, 0, 7, 1, 8)
    masked = write_noise(tmp_path / "masked.tif", nodata=None, north=8, size=256)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(masked, "r+") as dataset:
        mask = np.full((256, 256), 255, np.uint8)
        mask[:, 100:] = 0
        dataset.write_mask(mask)
    np.testing.assert_array_equal(sample(masked, where).mask[:, 0], where[:, 0] >= 100 / 256)

    nan = write_noise(tmp_path / "nan.tif", dtype="float32", nodata=np.nan, north=8, size=256)
    with rasterio.open(nan, "r+") as dataset:
        pixels = dataset.read()
        pixels[:, :50] = np.nan
        dataset.write(pixels)
    np.testing.assert_array_equal(sample(nan, where).mask[:, 0], where[:, 1] > 8 - 50 / 256)

    none = write_noise(tmp_path / "none.tif", nodata=None, north=8, size=256)
    assert not sample(none, where).mask.any()


def test_a_file_that_vanishes_in_the_middle(server, inside, noise, tmp_path):
    file = tmp_path / "going.tif"
    file.write_bytes(noise.read_bytes())
    url = server.add_file(file, "going.tif")
    where = points(2000)
    with pytest.raises(RasterioIOError, match=r"going.tif: .*404"):
        sample(url, where, max_workers=1, progress=lambda done, total: file.unlink(missing_ok=True))
    file.touch()
    assert len(server.requests("data")) < 20  # there are 64 blocks; the rest was dropped


def test_refused(server, inside):
    server.fail(403, times=None, match="noise")
    with pytest.raises(AccessDeniedError, match=r"noise.tif.*403"):
        sample([server.urls[0], server.url("noise.tif")], [(6.5, 0.2)])


def test_progress_ends_with_all_points_that_lie_in_a_raster(noise):
    calls = []
    sample(noise, points(500), progress=lambda *numbers: calls.append(numbers))
    assert calls[-1] == (500, 500)
    assert calls == sorted(calls)


def test_no_points(noise):
    for nothing in ([], np.empty((0, 2)), iter([])):
        assert sample(noise, nothing).shape == (0, 1)


def test_a_generator_of_points(noise):
    where = points(10)
    np.testing.assert_array_equal(sample(noise, (tuple(p) for p in where)), sample(noise, where))


@pytest.mark.parametrize(
    ("urls", "coords", "word"),
    [([], [(1, 1)], "URL"), (None, [(1, 1, 1)], "shape"), (None, [1, 2, 3], "shape")],
)
def test_arguments_that_make_no_sense(noise, urls, coords, word):
    with pytest.raises(ValueError, match=word):
        sample(noise if urls is None else urls, coords)


def test_rasters_of_different_bands(noise, metres):
    with pytest.raises(ValueError, match="bands"):
        sample([noise, metres], [(1, 1)])
    assert sample([noise, metres], [(1, 1)], indexes=1).shape == (1, 1)
