"""Which part of a raster is meant: a window of pixels, and perhaps a geometry within it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.features import bounds, geometry_mask
from rasterio.transform import Affine
from rasterio.warp import transform_geom
from rasterio.windows import Window

from rio_terrascope.errors import with_next_step
from rio_terrascope.reading import bounds_window

Geometry = Mapping[str, Any]


@dataclass(frozen=True)
class Region:
    """A part of a raster.

    Attributes
    ----------
    window : rasterio.windows.Window
        Of whole pixels, inside the raster.
    geometries : tuple of mapping
        GeoJSON-like polygons in the raster's CRS; what of the window lies outside of all of them does
        not belong to the region. None: the whole window does.
    all_touched : bool
        Whether a pixel belongs to the geometries that they touch, or whose centre they cover.
    """

    window: Window
    geometries: tuple[Geometry, ...] = ()
    all_touched: bool = False

    def outside(self, transform: Affine, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Tell of each pixel of a grid whether it lies outside of the geometries.

        Parameters
        ----------
        transform : Affine
            Of the grid, in the raster's CRS.
        shape : tuple of int
            Rows and columns.

        Returns
        -------
        ndarray of bool
        """
        if not self.geometries:
            return np.zeros(shape, bool)
        mask: npt.NDArray[np.bool_] = geometry_mask(
            self.geometries, out_shape=shape, transform=transform, all_touched=self.all_touched
        )
        return mask


def whole(dataset: Any) -> Region:
    """Return all of a raster."""
    return Region(Window(0, 0, dataset.width, dataset.height))


def box_region(dataset: Any, bbox: Sequence[float], *, crs: Any = "EPSG:4326") -> Region:
    """Return the pixels whose area meets a box; arguments and errors as of `bounds_window`."""
    return Region(bounds_window(dataset, bbox, crs=crs))


def window_region(dataset: Any, col_off: int, row_off: int, width: int, height: int) -> Region:
    """Return a window, clipped to the raster.

    Raises
    ------
    ValueError
        If it is empty, or lies outside of the raster.
    """
    if width < 1 or height < 1:
        raise ValueError(f"the window is {width} x {height} pixels; it has to have some.")
    left, top = max(0, col_off), max(0, row_off)
    right, bottom = min(dataset.width, col_off + width), min(dataset.height, row_off + height)
    if left >= right or top >= bottom:
        raise ValueError(
            f"the window of {width} x {height} pixels from column {col_off}, row {row_off} lies outside of "
            f"the raster, which has {dataset.width} columns and {dataset.height} rows."
        )
    return Region(Window(left, top, right - left, bottom - top))


def geometry_region(
    dataset: Any, geometries: Sequence[Geometry], *, crs: Any = "EPSG:4326", all_touched: bool = False
) -> Region:
    """Return the pixels inside of polygons.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
    geometries : sequence of mapping
        GeoJSON-like polygons, as `read_geometries` returns them.
    crs : CRS-like
        What they are in. Their corners are reprojected; edges stay straight in the raster's CRS.
    all_touched : bool
        As of `Region`.

    Raises
    ------
    ValueError
        If they lie outside of the raster.
    """
    if dataset.crs is not None and CRS.from_user_input(crs) != dataset.crs:
        geometries = [transform_geom(crs, dataset.crs, geometry) for geometry in geometries]
    box = bounds({"type": "GeometryCollection", "geometries": geometries})
    if not all(map(math.isfinite, box)):
        raise ValueError(
            with_next_step("the geometry cannot be expressed in the raster's CRS", "check its coordinates")
        )
    if box[0] == box[2] or box[1] == box[3]:
        raise ValueError("the geometry has no area.")
    window = bounds_window(dataset, box, crs=dataset.crs)
    return Region(window, tuple(geometries), all_touched)
