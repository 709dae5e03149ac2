"""WorldCover: the grid, boxes over several tiles and the antimeridian, and tiles that do not exist."""

import threading

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope import AccessDeniedError, terrascope_env, worldcover
from rio_terrascope.sandbox.island import Island
from rio_terrascope.sandbox.paths import worldcover_path
from rio_terrascope.sandbox.tile import CLASSES, north_west, write_tile


def names(bbox):
    return [tile.name for tile in worldcover.tiles(bbox, 2020)]


def test_names_and_urls():
    (tile,) = worldcover.tiles((6, 0, 9, 3), 2021, origin="https://services.terrascope.be")
    assert tile.name == "N00E006"
    assert tile.bounds == (6, 0, 9, 3)
    assert tile.url == f"https://services.terrascope.be{worldcover_path(2021, 'N00E006')}"


def test_tiles_touched_by_a_half_open_box():
    assert names((5, -1, 7, 1)) == ["N00E003", "N00E006", "S03E003", "S03E006"]
    assert names((-60, -3, -57, 0)) == ["S03W060"]
    assert names((-0.1, -0.1, 0.1, 0.1)) == ["N00W003", "N00E000", "S03W003", "S03E000"]
    assert names((179, 0, 180, 1)) == ["N00E177"]
    assert len(names((-180, -90, 180, 90))) == 7200


def test_tiles_across_the_antimeridian():
    assert names((179, 0, -179, 1)) == ["N00E177", "N00W180"]
    assert names((174, 0, -174, 1)) == ["N00E174", "N00E177", "N00W180", "N00W177"]


def test_the_server_is_that_of_the_env(server, inside):
    assert worldcover.tiles((6, 0, 9, 3), 2020)[0].url == server.url()


@pytest.mark.parametrize(
    ("bbox", "year"),
    [
        ((0, 0, 1, 1), 2019),
        ((0, 1, 1, 0), 2020),
        ((1, 0, 1, 1), 2020),
        ((0, 0, 200, 1), 2020),
        ((0, 0, 1, 91), 2020),
        ((0, 0, float("nan"), 1), 2020),
        ((0, 0, 1), 2020),
    ],
)
def test_arguments_that_make_no_sense(bbox, year):
    with pytest.raises(ValueError, match=r"box|map of"):
        worldcover.tiles(bbox, year)
    with pytest.raises(ValueError, match=r"box|map of"):
        worldcover.read(bbox, year)


def test_legend_and_attribution():
    assert {cover.value: (cover.label, cover.color) for cover in worldcover.LEGEND} == CLASSES
    assert "WorldCover project 2021" in worldcover.attribution(2021)


@pytest.mark.parametrize("year", [2020, 2021])
def test_a_box_in_one_tile(server, inside, tiles, year):
    land = 0
    with rasterio.open(tiles[year - 2020]) as local:
        # the first box has land in ESA's tile, the second in the synthetic one
        for column, row in ((6000, 30000), (10800, 16800)):
            west, north = 6 + column / 12000, 3 - row / 12000
            array, profile = worldcover.read((west, north - 0.25, west + 0.25, north), year)
            np.testing.assert_array_equal(array, local.read(window=Window(column, row, 3000, 3000)))
            assert tuple(profile["transform"])[:6] == pytest.approx(
                (1 / 12000, 0, west, 0, -1 / 12000, north)
            )
            land += np.count_nonzero(array)
    assert land


def test_sea_is_no_data_and_asked_for_once(server, inside, tiles):
    box = (5.9, -0.1, 6.75, 0.5)  # the corner of four tiles, of which one exists
    array, _ = worldcover.read(box, 2020)
    assert array.shape == (1, 7200, 10200)
    with rasterio.open(tiles[0]) as local:
        np.testing.assert_array_equal(
            array[0, :6000, 1200:], local.read(1, window=Window(0, 30000, 9000, 6000))
        )
    array[0, :6000, 1200:] = 0
    assert not array.any()
    absent = [r for r in server.requests("data") if r.status == 404]
    assert {r.path.split("_")[-2] for r in absent} == {"N00E003", "S03E003", "S03E006"}
    assert {url.split("_")[-2] for url in worldcover.known_sea()} == {"N00E003", "S03E003", "S03E006"}
    server.clear()
    worldcover.read(box, 2020)
    assert {r.path.split("_")[-2] for r in server.requests("data")} <= {"N00E006"}
    for forget in (worldcover.forget_sea, inside.refresh, inside.forget):
        worldcover.read(box, 2020)
        forget()
        assert worldcover.known_sea() == frozenset()
        server.clear()
        worldcover.read(box, 2020)
        assert sum(r.status == 404 for r in server.requests("data")) == 3


LAND = (6.5, 0.3, 6.6, 0.4)
LAND_AND_SEA = (5.9, 0.3, 6.6, 0.4)


def land_is_read(server, box=LAND):
    array, profile = worldcover.read(box, 2020)
    west, north = profile["transform"].c, profile["transform"].f
    left = round((max(west, 6) - west) * 12000)
    window = Window(round((west - 6) * 12000) + left, round((3 - north) * 12000), array.shape[2] - left, 1200)
    with rasterio.open(server.file()) as local:
        return np.array_equal(array[0, :1200, left:], local.read(1, window=window))


@pytest.mark.parametrize("box", [LAND, LAND_AND_SEA])
def test_one_404_is_not_sea_in_the_next_block(server, box):
    server.fail(404, times=1, match="N00E006")
    with terrascope_env():
        assert not land_is_read(server, box)
    with terrascope_env():
        assert land_is_read(server, box)


def test_one_404_is_not_sea_in_the_next_read(server, inside):
    """No other tile was read, so nothing says that the login was in order."""
    server.fail(404, times=1, match="N00E006")
    assert not land_is_read(server)
    assert land_is_read(server)


def test_a_404_to_a_refused_token_is_not_remembered(server, inside):
    server.revoke_tokens()
    server.fail(404, times=1, match="N00E006")
    land_is_read(server, LAND_AND_SEA)  # if the other tile's 401 comes in time, the tile is asked for again
    assert land_is_read(server, LAND_AND_SEA)


def test_after_a_refresh_a_404_may_be_land(server, inside):
    box = (5.9, 0.3, 6.6, 3.1)  # with the tile to the north, so that the 404 is believed
    server.add_file(server.file(), worldcover_path(2020, "N03E006"))
    server.fail(404, times=1, match="N00E006")
    worldcover.read(box, 2020, 0.01)
    assert any("N00E006" in url for url in worldcover.known_sea())
    inside.refresh()
    assert land_is_read(server, LAND_AND_SEA)


def test_a_404_that_comes_while_the_token_is_replaced_is_asked_again(server):
    with terrascope_env() as env:
        server.latency(0.5)
        server.fail(404, times=1, match="N00E006")
        seen = []
        reader = threading.Thread(target=lambda: seen.append(land_is_read(server)))
        reader.start()
        server.wait_for(lambda requests: any("N00E006" in r.path for r in requests), server="data")
        server.latency(0)  # the request that is under way still waits
        env.refresh()
        reader.join(60)
    assert seen == [True]


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AccessDeniedError), (403, AccessDeniedError), (503, RasterioIOError)]
)
def test_trouble_is_never_sea(server, inside, status, kind):
    server.fail(status, times=None, match="S03E006")
    for _ in range(2):
        with pytest.raises(kind, match=f"S03E006.*{status}"):
            worldcover.read((6.5, -0.1, 6.6, 0.1), 2020)
    server.heal()
    inside.refresh()
    array, _ = worldcover.read((6.5, -0.1, 6.6, 0.1), 2020)
    assert array.shape == (1, 2400, 1200)


def test_across_the_antimeridian(server, inside, tmp_path):
    for name in ("N51E177", "N51W180"):
        west = name[3:] == "E177"
        file = tmp_path / f"{name}.tif"
        column = north_west(name)[1] + (35_000 if west else 0)
        island = Island(seed=1, row=449_000, column=column, height=2_000, width=1_000)
        write_tile(file, name=name, islands=[island])
        server.add_file(file, worldcover_path(2020, name))
    array, profile = worldcover.read((179.95, 52.5, -179.95, 52.55), 2020)
    assert array.shape == (1, 600, 1200)
    window = Window(35400, 17400, 600, 600)
    with rasterio.open(tmp_path / "N51E177.tif") as local:
        np.testing.assert_array_equal(array[0, :, :600], local.read(1, window=window))
    with rasterio.open(tmp_path / "N51W180.tif") as local:
        np.testing.assert_array_equal(array[0, :, 600:], local.read(1, window=Window(0, 17400, 600, 600)))
    assert array[0, :, :600].any()
    assert array[0, :, 600:].any()
    assert profile["transform"].c == pytest.approx(179.95)


@pytest.mark.parametrize(
    ("resolution", "factor"), [(0.001, 12), (0.0035, 40), (1 / 12000, 1), (1e-5, 1), (0.01, 120)]
)
def test_coarser_pixels_lie_on_one_grid(server, inside, tiles, resolution, factor):
    array, profile = worldcover.read((6.52, 0.01, 6.71, 0.33), 2020, resolution)
    size = factor / 12000
    assert profile["transform"].a == pytest.approx(size)
    assert size <= resolution or factor == 1
    columns = (profile["transform"].c - 6) / size, (profile["transform"].f - 3) / size
    assert columns == pytest.approx(np.rint(columns), abs=1e-6)
    left, top = (abs(round(value)) * factor for value in columns)
    height, width = array.shape[1:]
    with rasterio.open(tiles[0]) as local, rasterio.Env(GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD="1"):
        window = Window(left, top, width * factor, height * factor)
        np.testing.assert_array_equal(array, local.read(window=window, out_shape=array.shape))


def test_progress(server, inside):
    calls = []
    worldcover.read((5.9, 0, 6.1, 0.1), 2020, progress=lambda *numbers: calls.append(numbers))
    assert calls == [(1, 2), (2, 2)]
