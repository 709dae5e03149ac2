"""The workloads, the same for every contender."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio.features import rasterize
from rasterio.transform import from_origin
from rasterio.windows import Window
from tiles import BLOCK, CORNERS, PIXEL, SIZE, SMALL_BLOCK, SMALL_SIZE, small_corner

from rio_terrascope.worldcover import Tile

BIG = "/download/big.tif"
REAL = "/download/real.tif"
FILES = [f"/download/files/{number:02}.tif" for number in range(20)]
SERIES = [f"/download/series/{number:03}.tif" for number in range(200)]
GRID = [f"/download/grid/{number:02}.tif" for number in range(100)]
MOSAIC = {corner: Tile(2020, corner[0], corner[1] - 3, "").url for corner in CORNERS.values()}

Request = tuple[str, tuple[int, int, int, int]]  # path; column, row, width, height


@dataclass(frozen=True)
class Workload:
    """A workload, as plain values."""

    name: str
    title: str
    kind: str  # the contender's function: windows, points, ...
    requests: tuple[Request, ...] = ()
    paths: tuple[str, ...] = (BIG,)
    points: int = 0
    size: int = 0  # of an overview
    level: int | None = None  # the overview that is read
    box: tuple[float, float, float, float] | None = None
    polygons: bool = False
    land: int = SIZE
    block: int = BLOCK

    def _pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the file of each point, by its number, and its pixel: column, row."""
        rng = np.random.default_rng(1)
        return rng.integers(0, len(self.paths), self.points), rng.integers(0, self.land, (self.points, 2))

    def coordinates(self) -> np.ndarray:
        """Return the points, x and y in degrees: the centres of pixels."""
        files, pixels = self._pixels()
        corners = [
            small_corner(n) if path in GRID else CORNERS["N00E006"] for n, path in enumerate(self.paths)
        ]
        return np.array(corners)[files] + (pixels + 0.5) * (PIXEL, -PIXEL)

    def blocks(self) -> dict[str, set[tuple[int, int]]]:
        """Return the blocks (column, row) that hold the points or windows, by path."""
        found: dict[str, set[tuple[int, int]]] = {}
        if self.points:
            files, pixels = self._pixels()
            for file, x, y in np.unique(np.column_stack([files, pixels // self.block]), axis=0).tolist():
                found.setdefault(self.paths[file], set()).add((x, y))
        for path, (column, row, width, height) in self.requests:
            columns = range(column // self.block, (column + width - 1) // self.block + 1)
            rows = range(row // self.block, (row + height - 1) // self.block + 1)
            found.setdefault(path, set()).update((x, y) for x in columns for y in rows)
        return found

    def windows(self) -> list[tuple[str, Window]]:
        """Return the requests, with windows of rasterio."""
        return [(path, Window(*window)) for path, window in self.requests]

    def finish(self, arrays: Iterable[np.ndarray]) -> Any:
        """Turn the pixels of the windows into the result; for polygons, count the pixels by value."""
        if self.polygons:
            features = self.feature_collection()["features"]
            return np.stack([_counts(*each) for each in zip(arrays, self.requests, features, strict=True)])
        if self.box:
            return self._pasted(arrays)
        return list(arrays)

    def feature_collection(self) -> dict[str, Any]:
        """Return the polygons: one in the middle of each window."""
        rng = np.random.default_rng(3)
        west, north = CORNERS["N00E006"]
        features = []
        for _, (column, row, width, height) in self.requests:
            angles = np.linspace(0, 2 * np.pi, 13)[:-1]
            lengths = rng.uniform(0.5, 0.98, 12) * min(width, height) / 2
            x = west + (column + width / 2 + lengths * np.cos(angles)) * PIXEL
            y = north - (row + height / 2 + lengths * np.sin(angles)) * PIXEL
            ring = np.column_stack([x, y]).tolist()
            geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
            features.append({"type": "Feature", "properties": {}, "geometry": geometry})
        return {"type": "FeatureCollection", "features": features}

    def _pasted(self, arrays: Iterable[np.ndarray]) -> np.ndarray:
        """Paste the shares of tiles into the box."""
        west, south, east, north = self.box
        result = np.zeros((1, round((north - south) / PIXEL), round((east - west) / PIXEL)), np.uint8)
        corners = {path: corner for corner, path in MOSAIC.items()}
        for pixels, (path, (column, row, width, height)) in zip(arrays, self.requests, strict=True):
            left, top = corners[path]
            x, y = column + round((left - west) / PIXEL), row + round((north - top) / PIXEL)
            result[:, y : y + height, x : x + width] = pixels
        return result


def _counts(pixels: np.ndarray, request: Request, feature: dict[str, Any]) -> np.ndarray:
    west, north = CORNERS["N00E006"]
    column, row, width, height = request[1]
    transform = from_origin(west + column * PIXEL, north - row * PIXEL, PIXEL, PIXEL)
    inside = rasterize([feature["geometry"]], (height, width), transform=transform, dtype="uint8")
    return np.bincount(pixels[0][inside == 1], minlength=256)


def _some(rng: Any, count: int, paths: list[str], sizes: Any, land: int) -> tuple[Request, ...]:
    """Return square windows at random, with the paths in turn."""
    found = []
    for number, size in enumerate(np.broadcast_to(sizes, count).tolist()):
        column, row = rng.integers(0, land - size, 2).tolist()
        found.append((paths[number % len(paths)], (column, row, size, size)))
    return tuple(found)


def _box(half: float) -> tuple[tuple[float, float, float, float], tuple[Request, ...]]:
    """Return a box around the corner where the four tiles meet, and its share of each tile."""
    box = west, south, east, north = 9 - half, -half, 9 + half, half
    requests = []
    for (left, top), path in MOSAIC.items():
        column, row = round((max(west, left) - left) / PIXEL), round((top - min(north, top)) / PIXEL)
        right = round((min(east, left + 3) - left) / PIXEL)
        bottom = round((top - max(south, top - 3)) / PIXEL)
        requests.append((path, (column, row, right - column, bottom - row)))
    return box, tuple(requests)


def workloads(quick: bool) -> list[Workload]:
    """List the workloads. The quick ones read the corner of the tile that has land."""
    land = SIZE // 6 if quick else SIZE
    rng = np.random.default_rng(0)
    few, many, polygons, warm = (20, 500, 20, 30) if quick else (200, 10_000, 500, 300)
    files, series, a_file = (FILES[:5], SERIES[:4], 5) if quick else (FILES, SERIES, 10)
    box, shares = _box(0.05 if quick else 0.25)  # the quick tiles have no land to its south-west
    large = (land // 4 + 100, land // 4 + 100, land // 6, land // 6)
    return [
        Workload("window", "one window of 512 x 512", "windows", _some(rng, 1, [BIG], 512, land)),
        Workload("window-real", "the same of ESA's tile", "windows", ((REAL, (8192, 20300, 512, 512)),)),
        Workload("overview", "a whole tile at 1000 px", "overview", ((BIG, (0, 0, 1125, 1125)),),
                 size=1000, level=4),
        Workload("windows", f"{few // 4} windows of one file", "windows",
                 _some(rng, few // 4, [BIG], 512, land)),
        Workload("points-few", f"{few} points of one file", "points", points=few, land=land),
        Workload("points-many", f"{many:,} points of one file", "points", points=many, land=land),
        Workload("files", f"one window of each of {len(files)} files", "windows",
                 _some(rng, len(files), files, 512, land)),
        Workload("mosaic", "a mosaic over 4 tiles", "mosaic", shares, box=box),
        Workload("window-large", f"a window of {land // 6} x {land // 6}", "windows", ((BIG, large),)),
        Workload("series", f"{len(series) * a_file:,} windows of {len(series)} files", "windows",
                 _some(rng, len(series) * a_file, series, 128, SMALL_SIZE), block=SMALL_BLOCK),
        Workload("polygons", f"statistics of {polygons} polygons", "windows",
                 _some(rng, polygons, [BIG], rng.integers(40, 300, polygons), land), polygons=True),
        Workload("warm", f"{warm} warm reads, no delay", "warm", _some(rng, warm, [BIG], 512, land)),
    ]  # fmt: skip


def growth() -> list[Workload]:
    """List growing numbers of windows and points, to see how time and memory grow."""
    rng = np.random.default_rng(2)
    return [
        *(Workload(f"windows-{n}", f"{n:,} windows of one file", "stream", _some(rng, n, [BIG], 512, SIZE))
          for n in (10, 100, 1000, 10_000)),
        *(Workload(f"points-{n}", f"{n:,} points of one file", "points", points=n)
          for n in (100, 1000, 10_000, 100_000, 1_000_000)),
        Workload("points-files", "1,000,000 points of 100 files", "points", paths=tuple(GRID),
                 points=1_000_000, land=SMALL_SIZE, block=SMALL_BLOCK),
        Workload("copy", "a whole tile copied by `tsread read`", "copy", ((BIG, (0, 0, SIZE, SIZE)),)),
    ]  # fmt: skip
