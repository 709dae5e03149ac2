"""The contents of a region of a raster: the area of each class, or the statistics of each band."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rasterio.windows import Window

from rio_terrascope.analysis.areas import pixel_areas, total_area
from rio_terrascope.analysis.regions import Region
from rio_terrascope.reading import Progress
from rio_terrascope.reading.grid import cut_window
from rio_terrascope.reading.masks import has_mask
from rio_terrascope.reading.parts import Part
from rio_terrascope.reading.raster import Raster

PIXELS_AT_ONCE = 4 * 2**20  # the computations need temporary arrays of eight bytes per pixel


@dataclass(frozen=True)
class ClassArea:
    """One class of a map.

    Attributes
    ----------
    value, pixels : int
    area_km2 : float
        Measured on the ellipsoid.
    share : float
        The fraction of the area with data, from 0 to 1.
    """

    value: int
    pixels: int
    area_km2: float
    share: float


@dataclass(frozen=True)
class Summary:
    """Statistics of one band: of the stored values of all pixels with data.

    Attributes
    ----------
    band : int
    count : int
        The number of pixels with data.
    min, max, mean, std : float or None
        None if there is no data. `std` is the population standard deviation.
    """

    band: int
    count: int
    min: float | None
    max: float | None
    mean: float | None
    std: float | None


def is_class_map(dataset: Any) -> bool:
    """Tell whether a raster's values are classes: integers with a colour table."""
    return dataset.colorinterp[0] == ColorInterp.palette and np.dtype(dataset.dtypes[0]).kind in "iu"


def class_areas(raster: Raster, region: Region, *, progress: Progress | None = None) -> list[ClassArea]:
    """Measure the classes of the first band.

    Parameters
    ----------
    raster : Raster
    region : Region
    progress : callable, optional
        Called with the number of pixels read so far and the total.

    Returns
    -------
    list of ClassArea
        The classes found in the region, in order of value. Pixels without data belong to none.

    Raises
    ------
    ValueError
        If the raster's values are not integers, or it has no CRS, without which pixels have no area.
    """
    dataset = raster.dataset
    if np.dtype(dataset.dtypes[0]).kind not in "iu":
        raise ValueError(f"the values are {dataset.dtypes[0]}; only integers can be classes.")
    pixels: dict[int, int] = {}
    areas: dict[int, float] = {}
    for (band,), (counts,), transform in _parts(raster, region, [1], progress):
        values = _values_in(band[counts])
        if len(values) == 0:
            continue  # no data at all, usually sea
        each = pixel_areas(transform, band.shape, dataset.crs)
        for value in values:
            chosen = (band == value) & counts
            pixels[value] = pixels.get(value, 0) + int(np.count_nonzero(chosen))
            areas[value] = areas.get(value, 0.0) + total_area(chosen, each)
    total = sum(areas.values())
    return [
        ClassArea(value, pixels[value], areas[value] / 1e6, areas[value] / total) for value in sorted(areas)
    ]


def summarize(
    raster: Raster, region: Region, *, bands: list[int] | None = None, progress: Progress | None = None
) -> list[Summary]:
    """Compute the statistics of bands.

    Parameters
    ----------
    raster : Raster
    region : Region
    bands : list of int, optional
        Default: all bands.
    progress : callable, optional
        Called with the number of pixels read so far and the total.

    Returns
    -------
    list of Summary
    """
    bands = bands or list(raster.dataset.indexes)
    running = {band: _Running() for band in bands}
    for pixels, counts, _ in _parts(raster, region, bands, progress):
        for band, values, chosen in zip(bands, pixels, counts, strict=True):
            running[band].add(values[chosen])
    return [running[band].summary(band) for band in bands]


def _parts(
    raster: Raster, region: Region, bands: Sequence[int], progress: Progress | None
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.bool_], Affine]]:
    """Read a region at full resolution, a few million pixels at a time.

    Yields
    ------
    pixels : ndarray, shape (bands, rows, columns)
    counts : ndarray of bool, shape (bands, rows, columns)
        Which pixels hold data and lie inside the region's geometries.
    transform : Affine
    """
    dataset = raster.dataset
    total = region.window.width * region.window.height
    done = 0
    masks = has_mask(dataset, bands)
    pixel_bytes = len(bands) * max(np.dtype(dtype).itemsize for dtype in dataset.dtypes)
    windows = list(cut_window(region.window, dataset.block_shapes[0], pixel_bytes))
    parts = (Part.of(window, bands, masks=masks) for window in windows)
    for window, (pixels, valid) in zip(windows, raster.read(parts, Part.read_valid), strict=True):
        step = max(1, PIXELS_AT_ONCE // (window.width * len(bands)))
        for top in range(0, window.height, step):
            rows = slice(top, min(top + step, window.height))
            part = Window(window.col_off, window.row_off + top, window.width, rows.stop - top)
            transform = dataset.window_transform(part)
            outside = region.outside(transform, (part.height, part.width))
            yield pixels[:, rows], valid[:, rows] & ~outside, transform
        done += window.width * window.height
        if progress is not None:
            progress(done, total)


def _values_in(pixels: npt.NDArray[Any]) -> list[int]:
    """Return the distinct values of an integer array; for bytes this is faster than np.unique alone."""
    if pixels.dtype == np.uint8:
        return [int(value) for value in np.flatnonzero(np.bincount(pixels, minlength=256))]
    return [int(value) for value in np.unique(pixels)]


class _Running:
    """Mean and variance, merged from arrays one at a time, so that large sums lose no precision.

    T. F. Chan, G. H. Golub, R. J. LeVeque, Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances, Stanford University report STAN-CS-79-773 (1979), equation 2.1.
    """

    def __init__(self) -> None:
        self.count = 0
        self.min, self.max = math.inf, -math.inf
        self.mean = self.squares = 0.0  # squares: the sum of squared differences from the mean

    def add(self, pixels: npt.NDArray[Any]) -> None:
        pixels = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
        if pixels.size == 0:
            return
        mean = float(pixels.mean(dtype=np.float64))
        squares = float(pixels.var(dtype=np.float64)) * pixels.size
        count = self.count + pixels.size
        delta = mean - self.mean
        self.squares += squares + delta**2 * self.count * pixels.size / count
        self.mean += delta * pixels.size / count
        self.count = count
        self.min, self.max = min(self.min, float(pixels.min())), max(self.max, float(pixels.max()))

    def summary(self, band: int) -> Summary:
        if self.count == 0:
            return Summary(band, 0, None, None, None, None)
        return Summary(band, self.count, self.min, self.max, self.mean, math.sqrt(self.squares / self.count))
