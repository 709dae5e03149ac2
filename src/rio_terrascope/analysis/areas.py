"""The true area of pixels, measured on the ellipsoid for grids in any CRS.

The area between the equator and a parallel follows from a closed formula: J. P. Snyder, Map Projections:
A Working Manual, USGS Professional Paper 1395 (1987), equation 3-12 (q), and page 17 (authalic sphere).
With the coordinates a * longitude and a * q / 2, the ellipsoid becomes a plane in which every area is
true: Lambert's cylindrical equal-area projection (equations 10-14 and 10-15 at the equator).
"""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform as reproject

Floats = npt.NDArray[np.float64]

# A grid that is not one of latitudes and longitudes is measured in patches of about this many metres.
# All pixels of a patch get the same area; the scale changes by less than 0.1 % over this distance.
_PATCH = 500.0
_MOST_PIXELS_PER_PATCH = 256  # along each side


@dataclass(frozen=True)
class Ellipsoid:
    """The figure of the Earth: semi-major axis in metres, and flattening."""

    semi_major: float = 6378137.0
    flattening: float = 1 / 298.257223563

    @classmethod
    def of(cls, crs: CRS) -> "Ellipsoid":
        """Return the ellipsoid of a CRS, or WGS 84 if the CRS names none."""
        found = re.search(r'(?:SPHEROID|ELLIPSOID)\["[^"]*",([\d.eE+]+),([\d.eE+]+)', crs.to_wkt())
        if found is None:
            return cls()
        inverse = float(found[2])
        return cls(float(found[1]), 1 / inverse if inverse else 0.0)

    def equal_area_y(self, latitude: npt.ArrayLike) -> Floats:
        """Return a * q / 2 for latitudes in radians: Snyder's equation 3-12."""
        sine = np.sin(np.asarray(latitude, dtype=np.float64))
        squared = self.flattening * (2 - self.flattening)  # the eccentricity, squared
        if squared == 0:
            return np.asarray(self.semi_major * sine)
        e = math.sqrt(squared)
        # atanh(e sin) equals the formula's -1/2 ln((1 - e sin) / (1 + e sin))
        q = (1 - squared) * (sine / (1 - squared * sine**2) + np.arctanh(e * sine) / e)
        return np.asarray(self.semi_major * q / 2)


def pixel_areas(transform: Affine, shape: tuple[int, int], crs: CRS | None) -> Floats:
    """Compute the area of each pixel of a grid.

    Parameters
    ----------
    transform : Affine
        From pixels to coordinates.
    shape : tuple of int
        Rows and columns.
    crs : CRS
        The CRS of the coordinates. On a grid of latitudes and longitudes the areas are exact, on the
        ellipsoid of the CRS. Other grids are measured on WGS 84, in patches of about 500 m: the sum is
        exact to 1e-6 or better, a single pixel to 1e-3, except at a pole.

    Returns
    -------
    ndarray
        Square metres, in a shape that broadcasts to `shape`: (rows, 1) on a grid of latitudes and
        longitudes, whose rows have pixels of equal area; otherwise (rows, columns).

    Raises
    ------
    ValueError
        If `crs` is None.

    Examples
    --------
    A pixel of WorldCover at the equator:

    >>> size = 1 / 12000
    >>> float(pixel_areas(Affine(size, 0, 6, 0, -size, 0), (1, 1), CRS.from_epsg(4326))[0, 0].round(2))
    85.48
    """
    if crs is None:
        raise ValueError("the raster has no CRS, so its pixels have no area.")
    if crs.is_geographic and transform.b == transform.d == 0:
        ellipsoid = Ellipsoid.of(crs)
        to_radians = _radians_per_unit(crs)
        edges = (transform.f + transform.e * np.arange(shape[0] + 1)) * to_radians
        # the part beyond a pole has no area: some global grids reach half a pixel too far
        height = np.abs(np.diff(ellipsoid.equal_area_y(np.clip(edges, -math.pi / 2, math.pi / 2))))
        width = ellipsoid.semi_major * abs(transform.a) * to_radians
        return np.asarray((height * width)[:, np.newaxis])
    row_nodes, column_nodes = (_nodes(count, _pixel_size(transform, crs)) for count in shape)
    patches = _patch_areas(transform, row_nodes, column_nodes, crs)
    row_counts, column_counts = np.diff(row_nodes), np.diff(column_nodes)
    each = patches / np.outer(row_counts, column_counts)
    return np.repeat(np.repeat(each, row_counts, axis=0), column_counts, axis=1)


def total_area(chosen: npt.NDArray[np.bool_], areas: Floats) -> float:
    """Add up the areas of the chosen pixels.

    Parameters
    ----------
    chosen : ndarray of bool, shape (rows, columns)
    areas : ndarray
        As `pixel_areas` returns them.

    Returns
    -------
    float
        In the unit of `areas`.
    """
    if areas.shape[1] == 1:
        return float(np.count_nonzero(chosen, axis=1) @ areas[:, 0])
    return float(np.sum(areas, where=chosen))


def _patch_areas(
    transform: Affine, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], crs: CRS
) -> Floats:
    """Return the area of each patch between nodes of the grid, shape (rows - 1, columns - 1)."""
    column, row = np.meshgrid(columns.astype(float), rows.astype(float))
    x = transform.a * column + transform.b * row + transform.c
    y = transform.d * column + transform.e * row + transform.f
    ellipsoid = Ellipsoid()
    longitude, latitude = (
        np.radians(np.asarray(values, dtype=np.float64).reshape(x.shape))
        for values in reproject(crs, CRS.from_epsg(4326), x.ravel(), y.ravel())
    )
    u, v = ellipsoid.semi_major * longitude, ellipsoid.equal_area_y(latitude)
    corners: list[Any] = [np.s_[:-1, :-1], np.s_[:-1, 1:], np.s_[1:, 1:], np.s_[1:, :-1]]
    # relative to the first corner, so that a patch across the antimeridian is not as wide as the Earth
    around = 2 * math.pi * ellipsoid.semi_major
    us = [(u[corner] - u[corners[0]] + around / 2) % around - around / 2 for corner in corners]
    vs = [v[corner] - v[corners[0]] for corner in corners]
    # the shoelace formula
    twice = sum(us[i] * vs[(i + 1) % 4] - us[(i + 1) % 4] * vs[i] for i in range(4))
    return np.asarray(np.abs(twice) / 2)


def _nodes(count: int, pixel_size: float) -> npt.NDArray[np.int64]:
    step = min(max(1, round(_PATCH / pixel_size)), _MOST_PIXELS_PER_PATCH)
    return np.unique(np.append(np.arange(0, count, step), count))


def _pixel_size(transform: Affine, crs: CRS) -> float:
    """Return the approximate length of a pixel's longer side in metres."""
    size = max(math.hypot(transform.a, transform.d), math.hypot(transform.b, transform.e))
    metres = Ellipsoid().semi_major * _radians_per_unit(crs) if crs.is_geographic else crs.units_factor[1]
    return size * float(metres)


def _radians_per_unit(crs: CRS) -> float:
    return float(crs.units_factor[1])
