"""The synthetic tile has the real one's layout."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
import rasterio
import requests
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from rio_terrascope.sandbox import Sandbox
from rio_terrascope.sandbox.island import land_cover
from rio_terrascope.sandbox.tile import CLASSES, LAND, worldcover_path, write_tile

from .conftest import login


@pytest.fixture(scope="module")
def tile() -> Iterator[pathlib.Path]:
    """The file behind the URL of a sandbox that was given no tiles."""
    with Sandbox() as sandbox:
        token = login(sandbox)["access_token"]
        head = requests.head(sandbox.url(), headers={"Authorization": f"Bearer {token}"}, timeout=10)
        assert head.status_code == 200
        assert int(head.headers["Content-Length"]) == sandbox.file().stat().st_size
        yield sandbox.file()
    assert not sandbox._files[worldcover_path()].parent.exists()


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


def test_land_is_where_it_is_said_to_be(tile: pathlib.Path) -> None:
    row, column, height, width = LAND
    with rasterio.open(tile) as dataset:
        land = dataset.read(1, window=Window(column, row, width, height))
        assert set(np.unique(land)) == {0, *CLASSES}
        assert (land > 0).mean() > 0.2
        # An island: its box ends in the sea on all sides, and so does what lies beyond.
        edges = np.concatenate([land[0], land[-1], land[:, 0], land[:, -1]])
        assert not edges.any()
        for offset in [(0, 0), (row - 1024, column), (row, column + width), (34976, 34976)]:
            assert not dataset.read(1, window=Window(offset[1], offset[0], 1024, 1024)).any()


@pytest.mark.parametrize("level", range(6))
def test_overviews_are_the_base_thinned_out(tile: pathlib.Path, level: int) -> None:
    factor = 2 ** (level + 1)
    with rasterio.open(tile) as dataset:
        row, column = 16384, 10240
        base = dataset.read(1, window=Window(column, row, 3072, 3072))
    with rasterio.open(tile, overview_level=level) as overview:
        assert overview.block_shapes == [(1024, 1024)]
        window = Window(column // factor, row // factor, 3072 // factor, 3072 // factor)
        seen = overview.read(1, window=window)
    assert base.any()
    # Nearest takes one pixel of each factor x factor; which one is GDAL's business.
    inside = (base.reshape(3072 // factor, factor, -1, factor) == seen[:, None, :, None]).any(axis=(1, 3))
    # Not quite all at 64, of which 36000 is no multiple: there the pixels drift apart by a few.
    assert inside.mean() > (0.95 if factor == 64 else 0.9999)


def test_islands_are_reproducible_and_differ_by_name_and_year() -> None:
    def island(year: int = 2020, name: str = "N00E006") -> np.ndarray:
        return np.concatenate([strip for _, strip in land_cover(1500, 800, year, name)])

    first = island()
    assert first.shape == (1500, 800)
    assert np.array_equal(first, island())
    assert not np.array_equal(first, island(name="S03W060"))
    assert 0 < (first != island(year=2021)).mean() < 0.1


def test_tiles_lie_where_their_name_says(tmp_path: pathlib.Path) -> None:
    write_tile(tmp_path / "tile.tif", year=2021, name="S03W060", land=(1000, 1000, 900, 800))
    assert not list(tmp_path.glob("*.base.tif"))
    with rasterio.open(tmp_path / "tile.tif") as dataset:
        assert dataset.bounds == pytest.approx((-60, -3, -57, 0))
        assert dataset.tags()["time_start"] == "2021-01-01T00:00:00Z"
        assert dataset.read(1, window=Window(1000, 1000, 800, 900)).any()
