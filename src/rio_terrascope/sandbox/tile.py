"""Synthetic WorldCover tiles: islands that do not exist, in the layout of the real tiles."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import Resampling
from rasterio.windows import Window

from .cog import create_cog
from .island import ISLANDS, Island, land_cover
from .paths import VERSIONS

__all__ = ["CLASSES", "north_west", "write_tile"]

SIZE = 36000
BLOCK = 1024
OVERVIEW_BLOCK = {2020: 128, 2021: 1024}
"""Block size of the overviews, as in ESA's files. It makes headers of 237 KB in 2020, of 28 KB in 2021."""

OVERVIEWS = [2, 4, 8, 16, 32, 64]

CLASSES = {
    10: ("Tree cover", (0, 100, 0)),
    20: ("Shrubland", (255, 187, 34)),
    30: ("Grassland", (255, 255, 76)),
    40: ("Cropland", (240, 150, 255)),
    50: ("Built-up", (250, 0, 0)),
    60: ("Bare/sparse vegetation", (180, 180, 180)),
    70: ("Snow and ice", (240, 240, 240)),
    80: ("Permanent water bodies", (0, 100, 200)),
    90: ("Herbaceous wetland", (0, 150, 160)),
    95: ("Mangroves", (0, 207, 117)),
    100: ("Moss and lichen", (250, 230, 160)),
}
"""The legend of WorldCover: the name and colour of each class."""


def north_west(name: str) -> tuple[int, int]:
    """Return the row and column of a tile's first pixel in the global grid, from 90° N and 180° W.

    Parameters
    ----------
    name : str
        The tile's south-west corner, such as N00E006.
    """
    south = int(name[1:3]) * (1 if name[0] == "N" else -1)
    west = int(name[4:7]) * (1 if name[3] == "E" else -1)
    return (87 - south) * SIZE // 3, (west + 180) * SIZE // 3


def write_tile(
    path: str | os.PathLike[str],
    *,
    year: int = 2020,
    name: str = "N00E006",
    islands: Iterable[Island] = ISLANDS,
) -> None:
    """Write a synthetic WorldCover tile.

    It is a Cloud-Optimized GeoTIFF like the real ones: 36000 x 36000 pixels over 3 x 3 degrees, blocks of
    1024, DEFLATE, nodata 0, a colour table, overviews 2 to 64. It shows islands of plausible land cover in
    a sea, and nodata around it.

    Parameters
    ----------
    path : path-like
        The file to write.
    year : int
        2020 or 2021. The land cover differs slightly.
    name : str
        The tile's south-west corner, such as N00E006.
    islands : iterable of Island
        The islands to draw, as far as they lie in the tile. Their seas must not overlap.
    """
    top, left = north_west(name)
    west, north = left * 3 / SIZE - 180, 90 - top * 3 / SIZE
    # Sparse blocks make a tile of 1.3 gigapixels cheap, in the full resolution and in the overviews: blocks
    # without data are neither compressed nor written. Resampling by mode would take ten times as long.
    with (
        rasterio.Env(
            GDAL_NUM_THREADS="ALL_CPUS",
            SPARSE_OK_OVERVIEW="YES",
            GDAL_TIFF_OVR_BLOCKSIZE=OVERVIEW_BLOCK[year],
        ),
        create_cog(
            path,
            size=SIZE,
            block=BLOCK,
            crs="EPSG:4326",
            transform=(3 / SIZE, 0, west, 0, -3 / SIZE, north),
            nodata=0,
            overviews=OVERVIEWS,
            resampling=Resampling.nearest,
            sparse=True,
        ) as dataset,
    ):
        dataset.write_colormap(1, {code: (*rgb, 255) for code, (_, rgb) in CLASSES.items()})
        dataset.update_tags(**_tags(year, name))
        for island in islands:
            for row, column, strip in land_cover(island, year, range(top, top + SIZE)):
                _write_part(dataset, strip, row - top, column - left)


def _write_part(dataset: Any, pixels: npt.NDArray[np.uint8], row: int, column: int) -> None:
    """Write the pixels that lie in the dataset."""
    above, before = max(-row, 0), max(-column, 0)
    pixels = pixels[above : max(SIZE - row, 0), before : max(SIZE - column, 0)]
    if pixels.size:
        dataset.write(pixels, 1, window=Window(column + before, row + above, *pixels.shape[::-1]))


def _tags(year: int, name: str) -> dict[str, str]:
    version = f"V{VERSIONS[year][1]}.0.0"
    return {
        "title": f"SYNTHETIC tile in the layout of ESA WorldCover at 10m resolution for year {year}",
        "copyright": "Synthetic data made by rio-terrascope for tests; not an ESA WorldCover product",
        "license": "CC0 1.0",
        "legend": "\n".join(f"{code:<3} {label}" for code, (label, _) in CLASSES.items()),
        "algorithm_version": version,
        "product_version": version,
        "product_crs": "EPSG:4326",
        "product_grid": "3x3 degree tiling grid",
        "product_tile": name,
        "product_type": "LandCover Map",
        "reference": "https://esa-worldcover.org",
        "time_start": f"{year}-01-01T00:00:00Z",
        "time_end": f"{year}-12-31T23:59:59Z",
        "OVR_RESAMPLING_ALG": "NEAREST",
    }
