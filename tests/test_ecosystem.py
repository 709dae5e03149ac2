"""Libraries built on rasterio work inside the block unchanged, even after the first token has expired."""

import numpy as np
import pytest
import rasterio
from rasterio.mask import mask
from rasterio.merge import merge
from rasterio.vrt import WarpedVRT

from helpers import tokens_sent
from rio_terrascope import read_windows, stac, terrascope_env
from rio_terrascope.reading import bounds_window

BOX = (6.45, 0.0, 6.80, 0.42)  # the island of São Tomé
WATER = 80
COLUMNS = (6000, 8000)
ROWS = [(row, row + 500) for row in (31000, 32300, 33600)]  # different blocks for each token


@pytest.fixture
def outlive(sandbox):
    """Enter a terrascope_env, and return a function that ends the current token, as after 300 s.

    The server then refuses all earlier tokens, and the client uses a new one.
    """
    served = []
    with terrascope_env() as env:

        def lapse():
            served.append(len(sandbox.requests("data")))
            sandbox.expire_tokens()
            env.refresh()

        yield lapse
    requests = sandbox.requests("data")
    served.append(len(requests))
    assert len(served) > 3, "it did not outlive much"
    assert served == sorted(set(served)), "nothing was asked of the server between two tokens"
    assert tokens_sent(requests) == {"valid"}


def test_rioxarray_computed_after_the_token_has_died(sandbox, outlive, local):
    rioxarray = pytest.importorskip("rioxarray")
    lazy = rioxarray.open_rasterio(sandbox.url(), chunks={"x": 1024, "y": 1024})
    for rows in ROWS:
        outlive()
        seen = lazy[0, slice(*rows), slice(*COLUMNS)].compute()
        np.testing.assert_array_equal(seen, local.read(1, window=(rows, COLUMNS)))
    assert len(np.unique(seen)) > 1
    lazy.close()


def test_rioxarray_without_dask(sandbox, outlive, local):
    rioxarray = pytest.importorskip("rioxarray")
    lazy = rioxarray.open_rasterio(sandbox.url(), masked=True)
    for rows in ROWS:
        outlive()
        seen = lazy[0, slice(*rows), slice(*COLUMNS)]
        np.testing.assert_array_equal(seen.fillna(0), local.read(1, window=(rows, COLUMNS)))
    assert (lazy.rio.crs, lazy.rio.transform()) == (local.crs, local.transform)
    lazy.close()


def test_xarray_with_the_threads_of_dask(sandbox, outlive, local):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("rioxarray")
    dataset = xarray.open_dataset(
        sandbox.url(), engine="rasterio", chunks={"x": 1024, "y": 1024}, mask_and_scale=False
    )
    for rows in ROWS:
        outlive()
        band = dataset.band_data[0, slice(*rows), slice(*COLUMNS)]
        land = (band != WATER).sum().compute(scheduler="threads", num_workers=8)
        assert int(land) == np.count_nonzero(local.read(1, window=(rows, COLUMNS)) != WATER) > 0
    dataset.close()


def test_rio_tiler(sandbox, outlive, tiles):
    reader = pytest.importorskip("rio_tiler.io").Reader
    zoom = 10
    with reader(sandbox.url()) as remote, reader(str(tiles[0])) as local:
        outlive()
        np.testing.assert_array_equal(remote.part(BOX).array, local.part(BOX).array)
        outlive()
        tile = remote.tms.tile(6.6, 0.2, zoom)
        seen = remote.tile(tile.x, tile.y, zoom)
        np.testing.assert_array_equal(seen.array, local.tile(tile.x, tile.y, zoom).array)
        assert seen.array.any()
        outlive()
        assert remote.point(7.4, 1.6).array == local.point(7.4, 1.6).array


def test_merge(sandbox, outlive, tiles):
    for token in range(3):
        outlive()
        urls = [f"{url}?{token}" for url in sandbox.urls]
        seen, transform = merge(urls, bounds=BOX)
        expected, same = merge(tiles, bounds=BOX)
        np.testing.assert_array_equal(seen, expected)
        assert transform == same
    assert seen.any()


def test_mask(sandbox, outlive, local):
    with rasterio.open(sandbox.url()) as src:
        for south in (0.05, 0.15, 0.25):
            outlive()
            triangle = [[(6.5, south), (6.7, south), (6.6, south + 0.1), (6.5, south)]]
            shapes = [{"type": "Polygon", "coordinates": triangle}]
            seen, _transform = mask(src, shapes, crop=True)
            np.testing.assert_array_equal(seen, mask(local, shapes, crop=True)[0])
            assert seen.any()


def test_warped_vrt(sandbox, outlive, local):
    utm = {"crs": "EPSG:32632"}
    with (
        rasterio.open(sandbox.url()) as src,
        WarpedVRT(src, **utm) as remote,
        WarpedVRT(local, **utm) as expected,
    ):
        for south in (10_000, 22_000, 34_000):  # metres
            outlive()
            window = rasterio.windows.from_bounds(220_000, south, 230_000, south + 5_000, expected.transform)
            seen = remote.read(1, window=window)
            np.testing.assert_array_equal(seen, expected.read(1, window=window))
            assert seen.any()


def test_areas_of_a_geodataframe_through_read_windows(sandbox, outlive, local):
    geopandas = pytest.importorskip("geopandas")
    from shapely.geometry import Point

    zones = geopandas.GeoDataFrame(
        {"name": ["north", "middle", "south"]},
        geometry=[Point(6.6, latitude).buffer(0.05) for latitude in (0.35, 0.25, 0.15)],
        crs="EPSG:4326",
    )
    for count in range(1, 4):
        outlive()
        some = zones.head(count)
        windows = [bounds_window(local, shape.bounds) for shape in some.geometry]
        for shape, window, pixels in zip(
            some.geometry, windows, read_windows((sandbox.url(), w) for w in windows), strict=True
        ):
            inside = rasterio.features.geometry_mask(
                [shape], pixels.shape[-2:], local.window_transform(window), invert=True
            )
            expected = local.read(1, window=window)
            land = np.count_nonzero(expected[inside] != WATER)
            assert np.count_nonzero(pixels[..., inside] != WATER) == land > 0


def found(collection, **search):
    return list(stac.open_catalog().search(collections=[collection], **search).items())


def test_odc_stac_on_items_of_the_catalogue(sandbox, outlive, local):
    odc_stac = pytest.importorskip("odc.stac")
    items = found("esa-worldcover-map-10m-2020-v1", bbox=BOX)
    lazy = odc_stac.load(items, bands=["Map"], bbox=BOX, chunks={"longitude": 1024, "latitude": 1024})
    window = bounds_window(local, BOX)
    expected = local.read(1, window=window)
    assert lazy.Map.shape == (1, *expected.shape)
    for top in (0, 1500, 3000):
        outlive()
        rows = slice(top, top + 500)
        np.testing.assert_array_equal(lazy.Map[0, rows].compute(), expected[rows])


def test_odc_stac_puts_a_stack_together(sandbox, outlive):
    """Two neighbouring tiles in UTM on six days, without naming a CRS or a resolution."""
    odc_stac = pytest.importorskip("odc.stac")
    items = found("terrascope-s2-ndvi-v2")
    lazy = odc_stac.load(items, bands=["NDVI"], groupby="solar_day", chunks={"x": 1024, "y": 1024})
    days = {item.datetime.date() for item in items}
    assert lazy.NDVI.shape[0] == len(days) < len(items)
    for number in (0, 2, 4):
        outlive()
        day = lazy.NDVI[number].compute()
        for item in items:
            if item.datetime.date() != lazy.time[number].values.astype("datetime64[D]").item():
                continue
            with rasterio.open(sandbox.file(item.assets["NDVI"].href)) as scene:
                (x, y), pixels = scene.xy(500, 500), scene.read(1, window=((500, 700), (500, 800)))
            left, top = int(abs(day.x - x).argmin()), int(abs(day.y - y).argmin())
            np.testing.assert_array_equal(day[top : top + 200, left : left + 300], pixels)
            assert len(np.unique(pixels)) > 10


def test_stackstac(sandbox, outlive):
    stackstac = pytest.importorskip("stackstac")
    items = found("terrascope-s2-ndvi-v2", datetime="2021-06")
    stack = stackstac.stack(
        items,
        assets=["NDVI"],
        epsg=32631,
        resolution=10,
        dtype="uint8",
        fill_value=np.uint8(255),
        rescale=False,
    )
    for number in range(3):
        outlive()
        item = items[number % len(items)]
        rows = slice(500 * number, 500 * number + 300)
        with rasterio.open(sandbox.file(item.assets["NDVI"].href)) as scene:
            x, y = scene.xy(rows.start, 600, offset="ul")
            pixels = scene.read(1, window=((rows.start, rows.stop), (600, 900)))
        seen = stack.sel(id=item.id)[0].sel(x=slice(x, x + 2990), y=slice(y, y - 2990))
        np.testing.assert_array_equal(seen.compute(), pixels)
