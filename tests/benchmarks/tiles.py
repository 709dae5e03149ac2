"""The tiles to read: one full of land, in the layout of WorldCover, and copies at other corners."""

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import rasterio
from rasterio.shutil import copy
from rasterio.transform import from_origin
from rasterio.windows import Window

from rio_terrascope.worldcover import LEGEND

SIZE, BLOCK = 36000, 1024
CORNERS = {"N00E006": (6, 3), "N00E009": (9, 3), "S03E006": (6, 0), "S03E009": (9, 0)}  # west, north


def cache_folder() -> Path:
    """Return the folder that keeps the tiles between runs."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rio-terrascope-benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def tile(name: str, quick: bool) -> Path:
    """Return the tile of a corner. The first is synthesized, the others are copies with another position."""
    first, (west, north) = next(iter(CORNERS)), CORNERS[name]
    path = cache_folder() / f"{'quick' if quick else 'full'}-{name}.tif"
    if not path.exists():
        print(f"making {path.name} ...", flush=True)
        beside = path.with_suffix(".part")
        if name == first:
            _write(beside, quick)
        else:
            shutil.copyfile(tile(first, quick), beside)
            _move(beside, CORNERS[first], (west, north))
        beside.replace(path)
    return path


def _write(path: Path, quick: bool) -> None:
    """Write the tile: patches of random classes that compress to about 115 KB a block."""
    rng = np.random.default_rng(42)
    values = np.array([cover.value for cover in LEGEND], np.uint8)
    size = 4096
    patches = values[rng.integers(0, len(values), (size // 16, size // 16))].repeat(16, 0).repeat(16, 1)
    speckles = rng.random((size, size)) < 0.015
    pattern = np.where(speckles, values[rng.integers(0, len(values), (size, size))], patches)
    base = path.with_suffix(".base")
    land = SIZE // 6 if quick else SIZE  # the quick tile has land in one corner; the rest is 0
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS", GDAL_TIFF_OVR_BLOCKSIZE=BLOCK, SPARSE_OK_OVERVIEW="YES"):
        profile = {
            "driver": "GTiff", "width": SIZE, "height": SIZE, "count": 1, "dtype": "uint8", "nodata": 0,
            "crs": "EPSG:4326", "transform": from_origin(*CORNERS["N00E006"], 3 / SIZE, 3 / SIZE),
            "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "sparse_ok": True,
            "compress": "zstd", "zstd_level": 1, "bigtiff": "yes",
        }  # fmt: skip
        with rasterio.open(base, "w", **profile) as dataset:
            for row in range(0, land, BLOCK):
                for column in range(0, land, BLOCK):
                    height, width = min(BLOCK, SIZE - row), min(BLOCK, SIZE - column)
                    top, left = rng.integers(0, size - BLOCK, 2)
                    block = pattern[top : top + height, left : left + width]
                    dataset.write(block, 1, window=Window(column, row, width, height))
        with rasterio.open(base, "r+") as dataset:
            dataset.build_overviews([2, 4, 8, 16, 32, 64], rasterio.enums.Resampling.nearest)
        copy(base, path, driver="COG", compress="deflate", blocksize=BLOCK)
    base.unlink()


def _move(path: Path, old: tuple[int, int], new: tuple[int, int]) -> None:
    """Change the tie point in the file's header, because copying 150 MB is faster than compressing them."""
    with path.open("r+b") as file:
        header = file.read(65536)
        at = header.index(struct.pack("<6d", 0, 0, 0, *old, 0))
        file.seek(at)
        file.write(struct.pack("<6d", 0, 0, 0, *new, 0))
