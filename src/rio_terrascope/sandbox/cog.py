"""Writes Cloud-Optimized GeoTIFFs, for the synthetic tiles and scenes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rasterio
from rasterio.enums import Resampling
from rasterio.shutil import copy


@contextlib.contextmanager
def create_cog(
    path: str | os.PathLike[str],
    *,
    size: int,
    block: int,
    crs: str,
    transform: tuple[float, ...],
    nodata: int,
    overviews: list[int],
    resampling: Resampling,
    sparse: bool,
) -> Iterator[Any]:
    """Open a dataset to write to, and turn it into a Cloud-Optimized GeoTIFF at the end of the block.

    One band of uint8, compressed with DEFLATE.

    Parameters
    ----------
    path : path-like
        The file to write.
    size, block : int
        Height and width of the raster and of its blocks, in pixels.
    crs, transform, nodata
        As for rasterio; `transform` has the six numbers of an `Affine`.
    overviews : list of int
        The overviews' factors.
    resampling : Resampling
        How the overviews are made.
    sparse : bool
        Whether to leave out blocks without data.

    Yields
    ------
    DatasetWriter
        A temporary GeoTIFF beside `path`.
    """
    with tempfile.TemporaryDirectory(prefix=f".{Path(path).name}.", dir=Path(path).parent) as folder:
        base = Path(folder) / "base.tif"
        with rasterio.open(
            base,
            "w",
            driver="GTiff",
            width=size,
            height=size,
            count=1,
            dtype="uint8",
            nodata=nodata,
            crs=crs,
            transform=rasterio.Affine(*transform),
            tiled=True,
            blockxsize=block,
            blockysize=block,
            sparse_ok=sparse,
            compress="lzw",
        ) as dataset:
            yield dataset
        with rasterio.open(base, "r+") as dataset:
            dataset.build_overviews(overviews, resampling)
        copy(base, path, driver="COG", compress="deflate", blocksize=block, sparse_ok=sparse)
