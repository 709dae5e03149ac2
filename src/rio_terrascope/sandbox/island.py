"""Synthetic islands: smooth random fields, divided into WorldCover classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NODATA = 0
WATER = 80
"""WorldCover's class for permanent water bodies."""

GRAIN = 8
"""Pixels per cell of the random fields."""

STRIP = 512
"""Rows made at a time, to save memory."""


@dataclass(frozen=True)
class Island:
    """An island in an ellipse of sea. Beyond the sea is nodata.

    Rows and columns are pixels of a global grid: 12,000 to a degree, from 90° N and 180° W. An island may
    therefore extend over several tiles.

    Attributes
    ----------
    seed : int
        The same seed always makes the same island.
    row, column, height, width : int
        The box that contains the land.
    sea : int
        How far the sea extends beyond the box, in pixels.
    """

    seed: int
    row: int
    column: int
    height: int
    width: int
    sea: int = 0


ISLANDS = (
    Island(seed=91, row=1_074_200, column=2_236_500, height=7_200, width=5_800, sea=2_000),
    Island(seed=9, row=1_059_000, column=2_247_500, height=3_000, width=2_400, sea=2_800),
)
"""The islands of the sandbox, in the place of São Tomé and Príncipe: 6.4° to 7.5° E, 0.1° S to 1.8° N."""


def land_cover(island: Island, year: int, rows: range) -> Iterator[tuple[int, int, npt.NDArray[np.uint8]]]:
    """Make up the land cover of an island and the sea around it.

    Parameters
    ----------
    island : Island
        The island.
    year : int
        Vegetation and settlements differ slightly between years.
    rows : range
        The rows of the global grid to make. The values of the pixels do not depend on it.

    Yields
    ------
    int, int, ndarray
        The first row and column of a strip, and its WorldCover classes (uint8; 0 is nodata). A strip has
        at most `STRIP` rows, and may extend beyond `rows`.
    """
    cover = _cover(island, year)
    top, left = island.row - island.sea, island.column - island.sea
    height, width = island.height + 2 * island.sea, island.width + 2 * island.sea
    x = np.linspace(-1, 1, width, dtype=np.float32) ** 2
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
    columns = np.arange(island.width, dtype=np.int32)
    for first in range(0, height, STRIP):
        last = min(first + STRIP, height)
        if top + last <= rows.start or top + first >= rows.stop:
            continue
        strip = np.where(x + y[first:last] <= 1, np.uint8(WATER), np.uint8(NODATA))
        on_land = np.arange(max(first - island.sea, 0), min(last - island.sea, island.height))
        if on_land.size:
            # Each pixel takes the class of a random cell nearby. That makes the edges as ragged as those
            # of classified imagery, and the blocks about as compressible.
            rng = np.random.default_rng((island.seed, first))
            jitter = rng.integers(0, 2 * GRAIN, (2, on_land.size, island.width), dtype=np.uint8)
            pixels = cover[(on_land[:, None] + jitter[0]) // GRAIN, (columns + jitter[1]) // GRAIN]
            begin = on_land[0] + island.sea - first
            part = strip[begin : begin + on_land.size, island.sea : island.sea + island.width]
            np.copyto(part, pixels, where=pixels != WATER)
        yield top + first, left, strip


def _cover(island: Island, year: int) -> npt.NDArray[np.uint8]:
    """Make up the classes on a grid of `GRAIN` pixels. The sea is `WATER`."""
    rng = np.random.default_rng(island.seed)
    shape = (island.height // GRAIN + 3, island.width // GRAIN + 3)
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    # A rough dome that stays inside the box. The classes follow from elevation, moisture and people.
    elevation = 0.7 - 1.5 * (y**2 + x**2) + 0.5 * smooth_noise(rng, shape)
    moisture = smooth_noise(rng, shape) - 0.02 * (year - 2020)
    people = smooth_noise(rng, shape) + 0.03 * (year - 2020)
    clouds = smooth_noise(rng, shape)
    return np.select(
        [
            elevation <= 0,
            clouds > 1.0,
            (elevation < 0.03) & (moisture > 0.1),
            (elevation < 0.08) & (moisture > 0.25),
            (moisture > 0.4) & (people < -0.1),
            elevation > 1.05,
            elevation > 0.95,
            elevation > 0.86,
            (people > 0.8) & (elevation < 0.5),
            (people > 0.2) & (elevation < 0.6),
            moisture < -0.3,
            moisture < -0.15,
        ],
        [WATER, NODATA, 95, 90, WATER, 70, 100, 60, 50, 40, 30, 20],
        default=10,
    ).astype(np.uint8)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return a smooth random field, about -1 to 1: the sum of noise at several wavelengths."""
    field = np.zeros(shape)
    for octave in range(7):
        cells = 3 * 2**octave
        noise = rng.uniform(-1, 1, (cells + 1, cells + 1))
        rows, columns = (np.linspace(0, cells, size, endpoint=False) for size in shape)
        # bilinear interpolation, one axis after the other
        lower, part = rows.astype(int), (rows % 1)[:, None]
        noise = noise[lower] * (1 - part) + noise[lower + 1] * part
        lower, part = columns.astype(int), columns % 1
        field += (noise[:, lower] * (1 - part) + noise[:, lower + 1] * part) * 0.6**octave
    return field
