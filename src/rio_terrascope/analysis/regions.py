"""A region of a raster: a window of pixels, and optionally the geometries within it that count."""

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
        Whole pixels inside the raster.
    geometries : tuple of mapping
        GeoJSON-like polygons in the raster's CRS. Pixels outside all of them do not belong to the
        region. If it is empty, the whole window belongs to the region.
    all_touched : bool
        If True, every pixel that a geometry touches is inside it; otherwise a pixel is inside if its
        centre is.
    """

    window: Window
    geometries: tuple[Geometry, ...] = ()
    all_touched: bool = False

    def outside(self, transform: Affine, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Return which pixels of a grid lie outside the geometries.

        Parameters
        ----------
        transform : Affine
            The grid's transform to the raster's CRS.
        shape : tuple of int
            Rows and columns of the grid.

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
    """Return the region that covers the whole raster."""
    return Region(Window(0, 0, dataset.width, dataset.height))


def box_region(dataset: Any, bbox: Sequence[float], *, crs: Any = "EPSG:4326") -> Region:
    """Return the region of all pixels that overlap a box; see `bounds_window`."""
    return Region(bounds_window(dataset, bbox, crs=crs))


def window_region(dataset: Any, col_off: int, row_off: int, width: int, height: int) -> Region:
    """Return the region of a window, clipped to the raster.

    Raises
    ------
    ValueError
        If the window is empty, or lies outside the raster.
    """
    if width < 1 or height < 1:
        raise ValueError(f"the window is empty: {width} x {height} pixels.")
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
    """Return the region inside polygons.

    Parameters
    ----------
    dataset : rasterio.DatasetReader
    geometries : sequence of mapping
        GeoJSON-like polygons, as `vector.read_geometries` returns them.
    crs : CRS-like
        The CRS of the polygons. Only their vertices are reprojected; the edges between them are
        straight lines in the raster's CRS.
    all_touched : bool
        As in `Region`.

    Raises
    ------
    ValueError
        If the polygons have no area, or lie outside the raster.
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
