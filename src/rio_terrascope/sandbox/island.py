"""An invented island: smooth random fields, cut into WorldCover classes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

GRAIN = 8
"""Pixels to one cell of the random fields."""

STRIP = 512
"""Rows made at a time, so that little memory is needed."""


def land_cover(height: int, width: int, year: int, name: str) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Invent the land cover of an island.

    Parameters
    ----------
    height, width : int
        Of the box that the island lies in, in pixels.
    year : int
        The vegetation changes a little from year to year.
    name : str
        Each name stands for an island of its own, always the same.

    Yields
    ------
    int, ndarray
        The first row and the WorldCover classes (uint8; sea is 0) of a strip of `STRIP` rows.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    shape = (height // GRAIN + 3, width // GRAIN + 3)
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    # A rough dome, whose foot stays inside the box. The rest follows from height, moisture and people.
    elevation = 0.7 - 1.5 * (y**2 + x**2) + 0.5 * smooth_noise(rng, shape)
    moisture = smooth_noise(rng, shape) - 0.01 * (year - 2020)
    people = smooth_noise(rng, shape)
    cover = np.select(
        [
            elevation <= 0,
            (elevation < 0.03) & (moisture > 0.1),
            (elevation < 0.08) & (moisture > 0.25),
            (moisture > 0.4) & (people < -0.1),
            elevation > 0.95,
            elevation > 0.85,
            elevation > 0.78,
            (people > 0.8) & (elevation < 0.5),
            (people > 0.2) & (elevation < 0.6),
            moisture < -0.3,
            moisture < -0.15,
        ],
        [0, 95, 90, 80, 70, 100, 60, 50, 40, 30, 20],
        default=10,
    ).astype(np.uint8)
    # From the coarse grid to pixels, a strip at a time to stay small: each pixel looks up a neighbour at
    # random, so that edges are as ragged as classified imagery is, and blocks compress about as well.
    columns = np.arange(width, dtype=np.int32)
    for top in range(0, height, STRIP):
        rows = np.arange(top, min(top + STRIP, height), dtype=np.int32)[:, None]
        jitter = rng.integers(0, 2 * GRAIN, (2, rows.size, width), dtype=np.uint8)
        yield top, cover[(rows + jitter[0]) // GRAIN, (columns + jitter[1]) // GRAIN]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return a smooth random field, about -1 to 1: noise of several wavelengths."""
    field = np.zeros(shape)
    for octave in range(7):
        cells = 3 * 2**octave
        noise = rng.uniform(-1, 1, (cells + 1, cells + 1))
        rows, columns = (np.linspace(0, cells, size, endpoint=False) for size in shape)
        # Bilinear, one axis after the other.
        lower, part = rows.astype(int), (rows % 1)[:, None]
        noise = noise[lower] * (1 - part) + noise[lower + 1] * part
        lower, part = columns.astype(int), columns % 1
        field += (noise[:, lower] * (1 - part) + noise[:, lower + 1] * part) * 0.6**octave
    return field
