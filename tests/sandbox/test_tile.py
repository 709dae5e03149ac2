"""The synthetic tiles have the layout of the real ones."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import rasterio
import requests
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from rio_terrascope.sandbox import Sandbox
from rio_terrascope.sandbox.island import ISLANDS, WATER, Island, land_cover
from rio_terrascope.sandbox.tile import CLASSES, north_west, write_tile

from .conftest import login


@pytest.fixture(scope="module")
def default(four_tiles: list[pathlib.Path]) -> dict[str, pathlib.Path]:
    """The default tiles, by year and name."""
    return {"_".join(file.stem.split("_")[3:6:2]): file for file in four_tiles}


@pytest.fixture(scope="module")
def tile(default: dict[str, pathlib.Path]) -> pathlib.Path:
    """The sandbox's first tile."""
    return next(iter(default.values()))


def test_two_tiles_of_both_years(default: dict[str, pathlib.Path]) -> None:
    assert list(default) == ["2020_N00E006", "2021_N00E006", "2020_S03E006", "2021_S03E006"]
    for key, file in default.items():
        with rasterio.open(file) as dataset:
            assert dataset.bounds == pytest.approx((6, 0, 9, 3) if "N00" in key else (6, -3, 9, 0))
            assert dataset.tags()["time_start"].startswith(key[:4])


def test_nothing_is_made_before_it_is_asked_for(four_tiles: list[pathlib.Path]) -> None:
    with Sandbox() as sandbox:
        assert [pathlib.Path(url).name for url in sandbox.urls] == [file.name for file in four_tiles]
        ndvi = {"collections": ["terrascope-s2-ndvi-v2"]}
        found = requests.post(f"{sandbox.catalogue_url}/search", json=ndvi, timeout=60).json()
        assert found["numberMatched"] > 0
        folder = sandbox.file().parent
        assert [path.name for path in folder.iterdir()] == [four_tiles[0].name]
        map_2021 = {"collections": ["esa-worldcover-map-10m-2021-v2"]}
        found = requests.post(f"{sandbox.catalogue_url}/search", json=map_2021, timeout=60).json()
        sizes = {item["id"]: item["assets"]["Map"]["file:size"] for item in found["features"]}
        made = {path.stem.removesuffix("_Map"): path.stat().st_size for path in folder.iterdir()}
        assert len(sizes) == 2
        assert sizes.items() <= made.items()
        authorization = {"Authorization": f"Bearer {login(sandbox)['access_token']}"}
        head = requests.head(sandbox.urls[2], headers=authorization, timeout=60)
        assert head.status_code == 200
        assert int(head.headers["Content-Length"]) == sandbox.file(sandbox.urls[2]).stat().st_size
        # what the tests below say of these tiles is true of the sandbox's
        for file in four_tiles:
            assert (folder / file.name).read_bytes() == file.read_bytes()
    assert not folder.exists()


def test_layout(tile: pathlib.Path) -> None:
    with rasterio.open(tile) as dataset:
        assert (dataset.width, dataset.height, dataset.count) == (36000, 36000, 1)
        assert dataset.dtypes == ("uint8",)
        assert dataset.nodata == 0
        assert dataset.crs.to_epsg() == 4326
        assert dataset.bounds == pytest.approx((6, 0, 9, 3))
        assert dataset.compression.name == "deflate"
        assert dataset.block_shapes == [(1024, 1024)]
        assert dataset.overviews(1) == [2, 4, 8, 16, 32, 64]
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.colorinterp == (ColorInterp.palette,)
        colours = dataset.colormap(1)
        assert {code: colours[code] for code in CLASSES} == {
            code: (*rgb, 255) for code, (_, rgb) in CLASSES.items()
        }
        tags = dataset.tags()
        assert tags["product_tile"] == "N00E006"
        assert "95  Mangroves" in tags["legend"]
        assert tags["title"].startswith("SYNTHETIC")
        assert "not an ESA WorldCover product" in tags["copyright"]
        assert "worldcover consortium" not in str(tags).lower()


@pytest.mark.parametrize("year", ["2020", "2021"])
def test_the_islands_have_all_classes_and_holes(default: dict[str, pathlib.Path], year: str) -> None:
    with rasterio.open(default[f"{year}_N00E006"]) as dataset:
        top, left = north_west("N00E006")
        for island in ISLANDS:
            window = Window(island.column - left, island.row - top, island.width, island.height)
            land = dataset.read(1, window=window.intersection(Window(0, 0, 36000, 36000)))
            # Many blocks of land, sea on all sides, and nodata pixels in the land.
            assert ((land != 0) & (land != WATER)).mean() > 0.2
            for edge in (land[0], land[:, 0], land[:, -1]):
                assert set(np.unique(edge)) <= {0, WATER}
            if island is ISLANDS[0]:
                assert set(np.unique(land)) == {0, *CLASSES}
        # Blocks beyond the sea are sparse.
        assert dataset.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1) is None


def test_an_island_continues_in_the_next_tile(default: dict[str, pathlib.Path]) -> None:
    island = ISLANDS[0]
    top, left = north_west("N00E006")
    border = top + 36000
    assert island.row < border < island.row + island.height
    seen = []
    for name, row in (("N00E006", 36000 - 100), ("S03E006", 0)):
        with rasterio.open(default[f"2020_{name}"]) as dataset:
            seen.append(dataset.read(1, window=Window(island.column - left, row, island.width, 100)))
    for first, column, strip in land_cover(island, 2020, range(border - 100, border + 100)):
        rows = np.arange(max(first, border - 100), min(first + len(strip), border + 100))
        inside = strip[rows - first, island.column - column :][:, : island.width]
        np.testing.assert_array_equal(inside, np.concatenate(seen)[rows - border + 100])
    assert all(((pixels != 0) & (pixels != WATER)).any() for pixels in seen)


@pytest.mark.parametrize("level", range(6))
def test_overviews_are_the_base_thinned_out(tile: pathlib.Path, level: int) -> None:
    factor = 2 ** (level + 1)
    with rasterio.open(tile) as dataset:
        row, column = 32768, 6144
        base = dataset.read(1, window=Window(column, row, 3072, 3072))
    with rasterio.open(tile, overview_level=level) as overview:
        assert overview.block_shapes == [(128, 128)]
        window = Window(column // factor, row // factor, 3072 // factor, 3072 // factor)
        seen = overview.read(1, window=window)
    assert base.any()
    # Each overview pixel is one of the factor x factor pixels below it; GDAL decides which.
    inside = (base.reshape(3072 // factor, factor, -1, factor) == seen[:, None, :, None]).any(axis=(1, 3))
    # At 64 a few differ: 36000 is not a multiple of 64, so the grids drift apart by a few pixels.
    assert inside.mean() > (0.95 if factor == 64 else 0.9999)


def test_blocks_of_the_overviews_are_as_in_esas_files(default: dict[str, pathlib.Path]) -> None:
    for year, block in (("2020", 128), ("2021", 1024)):
        with rasterio.open(default[f"{year}_N00E006"], overview_level=0) as overview:
            assert overview.block_shapes == [(block, block)]


def test_islands_are_reproducible_and_differ_by_seed_and_year() -> None:
    def island(seed: int = 1, year: int = 2020) -> np.ndarray:
        place = Island(seed=seed, row=0, column=0, height=1500, width=800)
        return np.concatenate([strip for _, _, strip in land_cover(place, year, range(1500))])

    first = island()
    assert first.shape == (1500, 800)
    assert np.array_equal(first, island())
    assert not np.array_equal(first, island(seed=2))
    assert 0 < (first != island(year=2021)).mean() < 0.1


def test_tiles_lie_where_their_name_says(tmp_path: pathlib.Path) -> None:
    top, left = north_west("S03W060")
    island = Island(seed=1, row=top + 1000, column=left + 1000, height=900, width=800)
    write_tile(tmp_path / "tile.tif", year=2021, name="S03W060", islands=[island])
    assert not list(tmp_path.glob("*.base.tif"))
    with rasterio.open(tmp_path / "tile.tif") as dataset:
        assert dataset.bounds == pytest.approx((-60, -3, -57, 0))
        assert dataset.tags()["time_start"] == "2021-01-01T00:00:00Z"
        assert dataset.read(1, window=Window(1000, 1000, 800, 900)).any()
