"""Shared by the tests of GDAL: a file whose header takes many requests."""

import numpy as np
import pytest
import rasterio


@pytest.fixture(scope="session")
def big_header(tmp_path_factory):
    """A tiled GeoTIFF that is not in COG layout, with a header of 130 KB, and overviews at its end."""
    file = tmp_path_factory.mktemp("files") / "big-header.tif"
    size, block = 4096, 32
    layout = {"tiled": True, "blockxsize": block, "blockysize": block, "compress": "deflate"}
    meta = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": size, "width": size, "nodata": 0}
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
    pixels = np.random.default_rng(1).integers(1, 255, (size // 64, size // 64), np.uint8)
    with rasterio.open(file, "w", **meta, **layout, crs="EPSG:32631", transform=transform) as dataset:
        dataset.write(pixels.repeat(64, 0).repeat(64, 1), 1)
        dataset.write_colormap(1, {1: (1, 2, 3, 255)})
        dataset.update_tags(place="somewhere")
    with rasterio.open(file, "r+") as dataset:
        dataset.build_overviews([2, 4, 8])
    return file
