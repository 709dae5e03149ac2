"""One rule says which pixels hold data, for sample, statistics, pictures and written masks."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rasterio.windows import Window

from rio_terrascope import sample
from rio_terrascope.analysis.cog import extract
from rio_terrascope.analysis.preview import picture
from rio_terrascope.analysis.regions import whole
from rio_terrascope.analysis.zonal import summarize
from rio_terrascope.reading.masks import has_mask
from rio_terrascope.reading.parts import Part
from rio_terrascope.reading.raster import Raster

PIXELS = np.array([[1, 2, np.nan, -9999], [np.nan, 3, 4, 5]], "float32")
IS_NAN, IS_NODATA = np.isnan(PIXELS), PIXELS == -9999
MASKED = np.zeros(PIXELS.shape, bool)
MASKED[:, 1] = True
WHOLE = Window(0, 0, 4, 2)

# what marks pixels as invalid, and which pixels then hold data
KINDS = {
    "nodata": ({"nodata": -9999}, ~IS_NAN & ~IS_NODATA),
    "no nodata": ({}, ~IS_NAN),
    "NaN as nodata": ({"nodata": np.nan}, ~IS_NAN),
    "mask band": ({"mask": True}, ~IS_NAN & ~MASKED),
    "mask band and nodata": ({"mask": True, "nodata": -9999}, ~IS_NAN & ~MASKED),
}


def write(path, pixels, *, mask=False, alpha=False, nodata=None):
    profile = {"driver": "GTiff", "height": 2, "width": 4, "count": 1 + alpha, "dtype": pixels.dtype}
    profile |= {"crs": "EPSG:4326", "transform": from_origin(0, 2, 1, 1), "nodata": nodata}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as out:
        if alpha:
            out.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
            out.write(np.where(MASKED, 0, 255).astype(pixels.dtype), 2)
        out.write(pixels, 1)
        if mask:
            out.write_mask(~MASKED)
    return path


def valid_pixels(dataset, bands):
    _, valid = Part.of(WHOLE, bands, masks=has_mask(dataset, bands)).read_valid(dataset)
    return valid


@pytest.fixture(params=KINDS)
def raster(request, tmp_path):
    """An open raster with NaN among its pixels, and which pixels hold data."""
    kind, valid = KINDS[request.param]
    with Raster(write(tmp_path / "in.tif", PIXELS, **kind)) as raster:
        assert has_mask(raster.dataset, [1]) == ("mask" in kind)
        yield raster, valid


def test_nan_is_never_data(raster):
    raster, valid = raster
    np.testing.assert_array_equal(valid_pixels(raster.dataset, [1])[0], valid)


def test_nan_in_samples(raster):
    raster, valid = raster
    points = [(column + 0.5, 1.5 - row) for row in range(2) for column in range(4)]
    values = sample(raster.dataset.name, points, indexes=1)
    np.testing.assert_array_equal(values.mask.reshape(2, 4), ~valid)
    np.testing.assert_array_equal(values.compressed(), PIXELS[valid])


def test_nan_in_statistics(raster):
    raster, valid = raster
    (found,) = summarize(raster, whole(raster.dataset), bands=[1])
    assert (found.count, found.min, found.max) == (valid.sum(), PIXELS[valid].min(), PIXELS[valid].max())
    assert found.mean == pytest.approx(PIXELS[valid].mean(dtype="float64"))


def test_nan_in_pictures(raster):
    raster, valid = raster
    drawn = picture(raster, whole(raster.dataset), bands=[1])
    np.testing.assert_array_equal(drawn.colours[..., 3] == 255, valid)


def test_nan_in_written_masks(raster, tmp_path):
    raster, valid = raster
    extract(raster, tmp_path / "out.tif", whole(raster.dataset), indexes=[1])
    with rasterio.open(tmp_path / "out.tif") as out:
        np.testing.assert_array_equal(out.read(1), PIXELS)
        np.testing.assert_array_equal(valid_pixels(out, [1])[0], valid)
        if has_mask(raster.dataset, [1]):
            np.testing.assert_array_equal(out.read_masks(1) != 0, valid)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])  # alpha bands of other types mask nothing
@pytest.mark.parametrize("kind", [{"nodata": 3}, {}, {"mask": True}, {"alpha": True}])
def test_whole_numbers_follow_gdals_mask(tmp_path, dtype, kind):
    pixels = np.arange(8).reshape(2, 4).astype(dtype)
    with rasterio.open(write(tmp_path / "in.tif", pixels, **kind)) as dataset:
        valid = valid_pixels(dataset, dataset.indexes)
        np.testing.assert_array_equal(valid, dataset.read_masks() != 0)
        assert valid.all() == (kind == {})
