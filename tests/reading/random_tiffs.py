"""Random TIFF files: whatever layout rasterio's GDAL can write."""

import contextlib
import functools

import numpy as np
import rasterio
from hypothesis import strategies as st
from rasterio.enums import ColorInterp, Resampling
from rasterio.io import MemoryFile
from rasterio.shutil import copy
from rasterio.windows import Window

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
DTYPES = [*INTEGERS, "float32", "float64", "complex64", "complex128", "complex_int16"]
CODECS = ["none", "lzw", "deflate", "packbits", "zstd", "lzma", "lerc", "lerc_deflate", "lerc_zstd", "webp"]
CODECS += ["jpeg", "jxl", "ccittfax3", "ccittfax4", "ccittrle"]
LOSSY = ("webp", "jpeg", "jxl", "lerc", "lerc_deflate", "lerc_zstd")  # only for some dtypes


def _can_write(codec):
    """Tell whether GDAL was built with a codec."""
    profile = {"driver": "GTiff", "width": 16, "height": 16, "count": 1, "dtype": "uint8"}
    if codec.startswith("ccitt"):
        profile["nbits"] = 1
    count = 3 if codec == "webp" else 1
    with contextlib.suppress(rasterio.errors.RasterioError), MemoryFile() as memory:
        with memory.open(**profile | {"count": count}, compress=codec, interleave="pixel") as dataset:
            dataset.write(np.zeros((count, 16, 16), "uint8"))
        with memory.open() as dataset:
            return codec == "none" or (dataset.compression is not None)
    return False


@functools.cache
def codecs():
    """Return the codecs that GDAL can write."""
    return [codec for codec in CODECS if _can_write(codec)]


@st.composite
def layouts(draw):
    """Draw the layout of a file, as a dict that `write` takes."""
    codec = draw(st.sampled_from(codecs()))
    fits = {"webp": ["uint8"], "jpeg": ["uint8"], "jxl": ["uint8", "uint16", "float32"]}
    if codec.startswith("ccitt"):
        dtypes, counts = ["uint8"], [1]
    elif codec.startswith("lerc"):
        dtypes, counts = ["uint8", "int16", "uint32", "float32", "float64"], [1, 2, 3]
    else:
        dtypes = fits.get(codec, DTYPES)
        counts = [3, 4] if codec == "webp" else [1, 2, 3, 4, 5]
    dtype, count = draw(st.sampled_from(dtypes)), draw(st.sampled_from(counts))
    height, width = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    profile = {"driver": "GTiff", "dtype": dtype, "count": count, "height": height, "width": width}
    if codec != "none":
        profile["compress"] = codec
    if draw(st.booleans()):
        sizes = st.sampled_from([16, 32, 48, 64, 128])
        profile |= {"tiled": True, "blockxsize": draw(sizes), "blockysize": draw(sizes)}
    else:
        # JPEG takes strips of whole units
        profile |= {
            "tiled": False,
            "blockysize": draw(st.sampled_from([8, 16, 64] if codec == "jpeg" else [1, 3, 8, 50, 999])),
        }
    profile["interleave"] = "pixel" if codec == "webp" else draw(st.sampled_from(["pixel", "band"]))
    if codec in ("lzw", "deflate", "zstd"):
        predictors = (
            [1] if dtype.startswith("complex") else [1, 2, 3] if dtype.startswith("float") else [1, 2]
        )
        profile["predictor"] = draw(st.sampled_from(predictors))
    if codec.startswith("ccitt"):
        profile["nbits"] = 1
    elif dtype == "uint8" and codec in ("none", "lzw", "deflate", "packbits", "zstd", "lzma"):
        nbits = draw(st.sampled_from([8, 8, 8, 1, 2, 4, 7]))
        if nbits < 8:
            profile |= {"nbits": nbits, "predictor": 1}
    if codec == "jpeg" and count == 3 and profile["interleave"] == "pixel" and draw(st.booleans()):
        profile["photometric"] = "ycbcr"
    if draw(st.booleans()):
        profile["bigtiff"] = "YES"
    if draw(st.booleans()):
        profile["endianness"] = "BIG"
    if draw(st.booleans()):
        profile["sparse_ok"] = True
    if not dtype.startswith("complex") and draw(st.booleans()):
        profile["nodata"] = draw(st.sampled_from([0, 1]))
    has_overviews = draw(st.booleans()) and not dtype.startswith("complex_int")
    return {
        "profile": profile,
        "crs": draw(st.sampled_from([None, "EPSG:4326", "EPSG:32631"])),
        "transform": draw(st.sampled_from([(1, 0, 0, 0, -1, 0), (0.7, 0.7, 5, 0.7, -0.7, 3)])),
        "alpha": count in (2, 4) and draw(st.booleans()),
        "mask": draw(st.booleans()),
        "overviews": draw(st.sampled_from([[2], [2, 4], [3], [2, 4, 8, 16]])) if has_overviews else [],
        "overview_block": draw(st.sampled_from([64, 128])),
        "colormap": count == 1
        and dtype in ("uint8", "uint16")
        and codec not in LOSSY
        and draw(st.booleans()),
        "cog": not dtype.startswith("complex_int")
        and not codec.startswith("ccitt")
        and not (codec == "jpeg" and count == 5)
        and draw(st.booleans()),
        "cog_block": draw(st.sampled_from([128, 256])),
        "tags": draw(st.sampled_from([0, 3, 3000])),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "holes": draw(st.booleans()),
    }


def pixels(layout):
    """Return pixels of which a part is constant, so that its blocks may be left out."""
    profile = layout["profile"]
    shape = (profile["count"], profile["height"], profile["width"])
    rng = np.random.default_rng(layout["seed"])
    dtype = {"complex_int16": "complex64"}.get(profile["dtype"], profile["dtype"])
    array = rng.integers(0, 2 ** min(profile.get("nbits", 7), 7), shape).astype(dtype)
    if layout["holes"]:
        top, left = rng.integers(0, shape[1]), rng.integers(0, shape[2])
        array[:, top:, left:] = profile.get("nodata", 0)
        array[:, : top // 2] = profile.get("nodata", 0)
    return array


def write(layout, path):
    """Write a file of a layout.

    Raises
    ------
    rasterio.errors.RasterioError
        If GDAL cannot write it: it refuses some combinations.
    """
    profile = layout["profile"]
    options = {
        "GDAL_TIFF_INTERNAL_MASK": True,
        "GDAL_TIFF_OVR_BLOCKSIZE": layout["overview_block"],
        "SPARSE_OK_OVERVIEW": profile.get("sparse_ok", False),
    }
    first = f"{path}.first.tif" if layout["cog"] else path
    with rasterio.Env(**options):
        place = {"crs": layout["crs"], "transform": rasterio.Affine(*layout["transform"])}
        with rasterio.open(first, "w", **profile, **place) as dataset:
            if layout["alpha"]:
                dataset.colorinterp = [*dataset.colorinterp[:-1], ColorInterp.alpha]
            array = pixels(layout)
            dataset.write(array)
            if layout["mask"]:
                dataset.write_mask(np.random.default_rng(layout["seed"]).random(array.shape[1:]) > 0.3)
            if layout["colormap"]:
                dataset.write_colormap(1, {1: (1, 2, 3, 255), 2: (9, 8, 7, 255)})
            if layout["tags"]:
                dataset.update_tags(place="here" * layout["tags"], AREA_OR_POINT="Point")
                dataset.update_tags(1, name="first")
                dataset.set_band_description(1, "a band")
        if layout["overviews"]:
            with rasterio.open(first, "r+") as dataset:
                dataset.build_overviews(layout["overviews"], Resampling.nearest)
        if layout["cog"]:
            codec = profile.get("compress", "none")
            more = {key: profile[key] for key in ("bigtiff", "sparse_ok", "nbits") if key in profile}
            copy(
                first,
                path,
                driver="COG",
                compress=codec,
                blocksize=layout["cog_block"],
                resampling="nearest",
                **more,
            )


@st.composite
def windows(draw, height, width):
    """Draw a window of a raster, and a shape to read it in."""
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    rows, columns = draw(st.integers(1, height - top)), draw(st.integers(1, width - left))
    shape = (rows, columns)
    if draw(st.booleans()):
        shape = (draw(st.integers(1, rows)), draw(st.integers(1, columns)))
    return Window(left, top, columns, rows), shape
