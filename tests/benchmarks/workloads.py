"""The workloads, the same for every contender."""

from dataclasses import dataclass

import numpy as np
from rasterio.windows import Window
from tiles import BLOCK, CORNERS, SIZE

BIG = "/download/big.tif"
REAL = "/download/real.tif"
FILES = [f"/download/files/{number:02}.tif" for number in range(20)]


@dataclass(frozen=True)
class Workload:
    """A workload, as plain values."""

    name: str
    title: str
    kind: str  # the contender's function: windows, points, ...
    requests: tuple[tuple[str, tuple[int, int, int, int]], ...] = ()  # path; column, row, width, height
    path: str = BIG
    points: int = 0
    size: int = 0
    box: tuple[float, float, float, float] = (0, 0, 0, 0)
    delayed: bool = True
    land: int = SIZE

    def coordinates(self) -> np.ndarray:
        """Return the points, x and y in degrees. None lies on an edge between pixels."""
        rng = np.random.default_rng(1)
        pixels = rng.integers(0, self.land, (self.points, 2)) + 0.5
        west, north = CORNERS["N00E006"]
        return np.column_stack([west + pixels[:, 0] * 3 / SIZE, north - pixels[:, 1] * 3 / SIZE])

    def blocks(self) -> int:
        """Count the blocks that hold the points or windows."""
        if self.points:
            west, north = CORNERS["N00E006"]
            pixels = (self.coordinates() - (west, north)) * (1, -1) * SIZE / 3
            return len(np.unique(pixels.astype(int) // BLOCK, axis=0))
        return len(
            {
                (path, x, y)
                for path, (column, row, width, height) in self.requests
                for x in range(column // BLOCK, (column + width - 1) // BLOCK + 1)
                for y in range(row // BLOCK, (row + height - 1) // BLOCK + 1)
            }
        )

    def windows(self) -> list[tuple[str, Window]]:
        """Return the requests, with windows of rasterio."""
        return [(path, Window(*window)) for path, window in self.requests]


def workloads(quick: bool) -> list[Workload]:
    """List the workloads. The quick ones read the corner of the tile that has land."""
    land = SIZE // 6 if quick else SIZE
    rng = np.random.default_rng(0)

    def some(count: int, paths: list[str], size: int = 512) -> tuple:
        offsets = rng.integers(0, land - size, (count, 2))
        return tuple(
            (paths[i % len(paths)], (int(column), int(row), size, size))
            for i, (column, row) in enumerate(offsets)
        )

    # the corner where the four tiles of the mosaic meet; the quick tiles have no land to its south-west
    half = 0.05 if quick else 0.25
    warm = 30 if quick else 300
    few, many = (20, 500) if quick else (200, 10_000)
    files = FILES[:5] if quick else FILES
    return [
        Workload("window", "open + one 512 window", "windows", some(1, [BIG])),
        Workload("window-real", "the same of the real tile", "windows", ((REAL, (8192, 20300, 512, 512)),)),
        Workload("windows", f"{few // 4} windows of one file", "windows", some(few // 4, [BIG])),
        Workload("points-few", f"{few} points of one file", "points", points=few, land=land),
        Workload("points-many", f"{many:,} points of one file", "points", points=many, land=land),
        Workload("overview", "a whole tile at 1000 px", "overview", size=1000),
        Workload("window-large", f"a {land // 6} x {land // 6} window", "windows",
                 ((BIG, (land // 4 + 100, land // 4 + 100, land // 6, land // 6)),)),
        Workload("files", f"one window from each of {len(files)} files", "windows", some(len(files), files)),
        Workload("mosaic", "a mosaic over 4 tiles", "mosaic", box=(9 - half, -half, 9 + half, half)),
        Workload("warm", f"{warm} warm reads on loopback", "warm", some(warm, [BIG]), delayed=False),
    ]  # fmt: skip


def growth(quick: bool) -> list[Workload]:
    """List growing numbers of points and windows of one file, to see how time and memory grow."""
    land = SIZE // 6 if quick else SIZE
    rng = np.random.default_rng(2)
    counts, more = ([10, 100], [5, 10]) if quick else ([100, 1000, 10_000, 100_000], [10, 100, 1000])
    found = [Workload(f"points-{n}", f"{n:,} points", "points", points=n, land=land) for n in counts]
    for n in more:
        offsets = rng.integers(0, land - 512, (n, 2))
        requests = tuple((BIG, (int(column), int(row), 512, 512)) for column, row in offsets)
        found.append(Workload(f"windows-{n}", f"{n:,} windows of 512", "stream", requests))
    return found
