"""The files of the synthetic NDVI scenes, each made when it is first requested."""

from __future__ import annotations

import os
import zlib

import numpy as np
import numpy.typing as npt
from rasterio.enums import Resampling

from .cog import create_cog
from .island import GRAIN, smooth_noise
from .scenes import CRS, FILE_SIZE, LEFT, NODATA, OFFSET, PIXEL, SCALE, SIZE, Scene

_WEST = min(LEFT.values())
_WIDTH = (max(LEFT.values()) - _WEST) // PIXEL + SIZE
"""The extent of all tiles together, so that they agree where they overlap."""


def write_scene(path: str | os.PathLike[str], scene: Scene) -> None:
    """Write an NDVI scene.

    It is a Cloud-Optimized GeoTIFF in UTM with 2048 x 2048 pixels of 10 m: uint8 with scale and offset,
    nodata 255 under clouds, blocks of 512, DEFLATE, overviews 2 and 4.

    Parameters
    ----------
    path : path-like
        The file to write.
    scene : Scene
        The scene. Its pixels are always the same.
    """
    column = (LEFT[scene.tile] - _WEST) // PIXEL
    pixels = _values(scene.day)[:, column : column + SIZE]
    with create_cog(
        path,
        size=SIZE,
        block=512,
        crs=CRS,
        transform=scene.transform,
        nodata=NODATA,
        overviews=[2, 4],
        resampling=Resampling.average,
        sparse=False,
    ) as dataset:
        dataset.write(pixels, 1)
        dataset.scales, dataset.offsets = (SCALE,), (OFFSET,)
        dataset.set_band_description(1, "NDVI")
        dataset.update_tags(copyright="Synthetic data made by rio-terrascope for tests; CC0 1.0")
    if os.path.getsize(path) > FILE_SIZE:
        raise ValueError(f"{scene.id} is larger than the {FILE_SIZE} bytes that the catalogue promises")
    os.truncate(path, FILE_SIZE)


def _values(day: str) -> npt.NDArray[np.uint8]:
    """Make up the pixels of all tiles together on one day."""
    shape = (SIZE // GRAIN + 3, _WIDTH // GRAIN + 3)
    ground = np.random.default_rng(31)
    fields, woods = smooth_noise(ground, shape), smooth_noise(ground, shape)
    clouds = smooth_noise(np.random.default_rng(zlib.crc32(day.encode())), shape)
    # Crops grow in spring and are harvested by autumn; woods are green all summer.
    summer = np.cos(2 * np.pi * ((int(day[4:6]) - 1) * 30 + int(day[6:]) - 195) / 365)
    ndvi = np.where(woods > 0.2, 0.6 + 0.2 * summer, 0.35 + 0.3 * summer * np.clip(1 + fields, 0, 1))
    ndvi = np.where(woods < -0.5, 0.1, ndvi + 0.1 * fields)
    coarse = np.clip(np.round((ndvi - OFFSET) / SCALE), 0, 250).astype(np.uint8)
    coarse[clouds > 0.35] = NODATA
    # ragged edges, as in `island.land_cover`
    jitter = ground.integers(0, 2 * GRAIN, (2, SIZE, _WIDTH), dtype=np.uint8)
    rows, columns = np.ogrid[:SIZE, :_WIDTH]
    ragged: npt.NDArray[np.uint8] = coarse[(rows + jitter[0]) // GRAIN, (columns + jitter[1]) // GRAIN]
    return ragged
