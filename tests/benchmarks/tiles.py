"""The files to read: tiles full of land in the layout of WorldCover, and small files beside each other."""

import os
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import rasterio
from rasterio.shutil import copy
from rasterio.transform import from_origin
from rasterio.windows import Window

from rio_terrascope.worldcover import LEGEND

PIXEL = 3 / 36000  # degrees
SIZE, BLOCK = 36000, 1024
SMALL_SIZE, SMALL_BLOCK = 4096, 512
CORNERS = {"N00E006": (6, 3), "N00E009": (9, 3), "S03E006": (6, 0), "S03E009": (9, 0)}  # west, north


def cache_folder() -> Path:
    """Return the folder that keeps the files between runs."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rio-terrascope-benchmark"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def small_corner(number: int) -> tuple[float, float]:
    """Return the west and north edges of a small file: ten in a row, with a gap between them."""
    step = 1.5 * SMALL_SIZE * PIXEL
    return 20 + number % 10 * step, 45 - number // 10 * step


def tile(name: str, quick: bool) -> Path:
    """Return the tile of a corner. The quick one has land in one corner; the rest is 0."""
    land = SIZE // 6 if quick else SIZE
    corners = list(CORNERS.values())
    return _file(f"{'quick' if quick else 'full'}-{name}", CORNERS[name], corners[0], SIZE, BLOCK, land)


def small_file(number: int) -> Path:
    """Return a small file."""
    corner, first = small_corner(number), small_corner(0)
    return _file(f"small-{number:02}", corner, first, SMALL_SIZE, SMALL_BLOCK, SMALL_SIZE)


def stored_size(file: Path, level: int | None, blocks: Iterable[tuple[int, int]]) -> int:
    """Return the bytes that blocks (column, row) of a file or of its overview take. Sparse ones take none."""
    options = {} if level is None else {"overview_level": level}
    with rasterio.open(file, **options) as dataset:
        sizes = (dataset.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=1) for x, y in blocks)
        return sum(int(size or 0) for size in sizes)


def _file(
    name: str, corner: tuple[float, float], first: tuple[float, float], size: int, block: int, land: int
) -> Path:
    """Return a file of the cache. The first of its kind is synthesized, the others are copies of it."""
    path = cache_folder() / f"{name}.tif"
    original = cache_folder() / f"{name.split('-')[0]}-original-{size}.tif"
    if not original.exists():
        print(f"making {original.name} ...", flush=True)
        _write(original.with_suffix(".part"), first, size, block, land)
        original.with_suffix(".part").replace(original)
    if not path.exists():
        shutil.copyfile(original, path.with_suffix(".part"))
        _move(path.with_suffix(".part"), first, corner)
        path.with_suffix(".part").replace(path)
    return path


def _write(path: Path, corner: tuple[float, float], size: int, block: int, land: int) -> None:
    """Write patches of random classes that compress to about 0.11 bytes a pixel."""
    rng = np.random.default_rng(42)
    values = np.array([cover.value for cover in LEGEND], np.uint8)
    side = 4096
    patches = values[rng.integers(0, len(values), (side // 16, side // 16))].repeat(16, 0).repeat(16, 1)
    speckles = rng.random((side, side)) < 0.015
    pattern = np.where(speckles, values[rng.integers(0, len(values), (side, side))], patches)
    base = path.with_suffix(".base")
    with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS", GDAL_TIFF_OVR_BLOCKSIZE=block, SPARSE_OK_OVERVIEW="YES"):
        profile = {
            "driver": "GTiff", "width": size, "height": size, "count": 1, "dtype": "uint8", "nodata": 0,
            "crs": "EPSG:4326", "transform": from_origin(*corner, PIXEL, PIXEL),
            "tiled": True, "blockxsize": block, "blockysize": block, "sparse_ok": True,
            "compress": "zstd", "zstd_level": 1, "bigtiff": "yes",
        }  # fmt: skip
        with rasterio.open(base, "w", **profile) as dataset:
            for row in range(0, land, block):
                for column in range(0, land, block):
                    height, width = min(block, size - row), min(block, size - column)
                    top, left = rng.integers(0, side - block, 2)
                    pixels = pattern[top : top + height, left : left + width]
                    dataset.write(pixels, 1, window=Window(column, row, width, height))
        with rasterio.open(base, "r+") as dataset:
            levels = [2, 4, 8, 16, 32, 64] if size == SIZE else [2, 4, 8]
            dataset.build_overviews(levels, rasterio.enums.Resampling.nearest)
        copy(base, path, driver="COG", compress="deflate", blocksize=block)
    base.unlink()


def _move(path: Path, old: tuple[float, float], new: tuple[float, float]) -> None:
    """Change the tie point in the file's header, because copying 150 MB is faster than compressing them."""
    with path.open("r+b") as file:
        header = file.read(65536)
        at = header.index(struct.pack("<6d", 0, 0, 0, *old, 0))
        file.seek(at)
        file.write(struct.pack("<6d", 0, 0, 0, *new, 0))
