"""read: the pixels of the local file, with their georeference, colours, nodata and tags."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio.features import geometry_mask
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from helpers import TSREAD

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_box_with_colours_nodata_and_tags(tsread, sandbox, land):
    done = tsread("read", sandbox.url(), "-o", "out.tif", "--bbox", *land.bbox)
    assert done.stdout == done.stderr == ""
    with rasterio.open(sandbox.file()) as tile, rasterio.open(tsread.cwd / "out.tif") as out:
        assert np.array_equal(out.read(1), land.pixels)
        assert out.transform.almost_equals(land.transform)
        assert (out.crs, out.nodata, out.dtypes) == (tile.crs, tile.nodata, tile.dtypes)
        assert out.colormap(1) == tile.colormap(1)
        assert {**tile.tags(), "OVR_RESAMPLING_ALG": ""} == {**out.tags(), "OVR_RESAMPLING_ALG": ""}
        assert out.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert out.overviews(1)


def test_a_box_takes_all_pixels_that_it_touches(tsread, sandbox, land):
    pixel = 1 / 12000
    west, south, *_ = land.bbox
    box = (west + 0.1 * pixel, south + 0.9 * pixel, west + 1.1 * pixel, south + 1.1 * pixel)
    tsread("read", sandbox.url(), "-o", "out.tif", "--bbox", *box)
    with rasterio.open(tsread.cwd / "out.tif") as out:
        assert np.array_equal(out.read(1), land.pixels[-2:, :2])
        assert out.bounds == pytest.approx((west, south, west + 2 * pixel, south + 2 * pixel))


def test_a_box_in_another_crs(tsread, sandbox, land):
    box = transform_bounds("EPSG:4326", "EPSG:32632", *land.bbox)
    tsread("read", sandbox.url(), "-o", "out.tif", "--bbox", *box, "--bbox-crs", "EPSG:32632")
    back = transform_bounds("EPSG:32632", "EPSG:4326", *box)
    with rasterio.open(sandbox.file()) as tile, rasterio.open(tsread.cwd / "out.tif") as out:
        window = tile.window(*back)
        assert abs(out.width - window.width) < 2
        assert abs(out.height - window.height) < 2
        whole = tile.window(*out.bounds).round_lengths().round_offsets()
        assert np.array_equal(out.read(1), tile.read(1, window=whole))


@pytest.mark.parametrize("window", [(9000, 15500, 1300, 900), (-50, 35000, 300, 5000)])
def test_a_window_clipped_to_the_raster(tsread, sandbox, window):
    tsread("read", sandbox.url(), "-o", "out.tif", "--window", *window)
    col, row, width, height = window
    with rasterio.open(sandbox.file()) as tile, rasterio.open(tsread.cwd / "out.tif") as out:
        left, right, bottom = max(0, col), col + width, min(36000, row + height)
        expected = Window(left, row, right - left, bottom - row)
        assert np.array_equal(out.read(1), tile.read(1, window=expected))
        assert out.transform.almost_equals(tile.window_transform(expected))


def triangle(land):
    west, south, east, north = land.bbox
    return {"type": "Polygon", "coordinates": [[[west, south], [east, south], [west, north], [west, south]]]}


@pytest.mark.parametrize("touched", [False, True])
def test_a_geometry_masks_what_lies_outside(tsread, sandbox, land, touched):
    feature = {"type": "Feature", "properties": {}, "geometry": triangle(land)}
    (tsread.cwd / "park.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    more = ["--all-touched"] if touched else []
    tsread("read", sandbox.url(), "-o", "out.tif", "--geometry", "park.geojson", *more)
    outside = geometry_mask([triangle(land)], land.pixels.shape, land.transform, all_touched=touched)
    with rasterio.open(tsread.cwd / "out.tif") as out:
        assert np.array_equal(out.read(1), np.where(outside, 0, land.pixels))
        assert 0.4 < outside.mean() < 0.6


@pytest.mark.parametrize("size", [("--max-size", 350), ("--resolution", 3.3 / 12000)])
def test_coarser_pixels_come_from_the_overviews(tsread, sandbox, land, size):
    west, south, east, north = land.bbox
    box = (west - 0.3, south, east + 0.3, north)
    tsread("read", sandbox.url(), "-o", "out.tif", "--bbox", *box, *size)
    sent = sum(request.sent for request in sandbox.requests("data"))
    with rasterio.open(sandbox.file()) as tile, rasterio.open(tsread.cwd / "out.tif") as out:
        window = tile.window(*box).round_offsets().round_lengths()
        if size[0] == "--max-size":
            assert max(out.shape) == 350
        else:
            assert out.res[0] <= size[1] + 1e-12
            assert out.res[0] > size[1] * 0.99
        assert out.bounds == pytest.approx(box, abs=1e-9)
        with rasterio.Env(GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD="1"):
            assert np.array_equal(out.read(1), tile.read(1, window=window, out_shape=out.shape))
        full = out.width * out.height * (window.width / out.width) ** 2
        assert sent < full / 4


def test_bands_scales_descriptions_and_masks_are_kept(tsread):
    rng = np.random.default_rng(1)
    profile = {
        "driver": "GTiff",
        "width": 700,
        "height": 600,
        "count": 3,
        "dtype": "int16",
        "crs": "EPSG:32632",
    }
    profile["transform"] = rasterio.transform.from_origin(300000, 5000000, 10, 10)
    pixels = rng.integers(-100, 1000, (3, 600, 700)).astype("int16")
    mask = rng.random((600, 700)) < 0.7
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tsread.cwd / "in.tif", "w", **profile) as out,
    ):
        out.write(pixels)
        out.write_mask(mask)
        out.scales, out.offsets = (1, 0.5, 0.004), (0, 1, -0.08)
        out.set_band_description(3, "NDVI")
        out.set_band_unit(3, "1")
        out.update_tags(3, wavelength="842")
    tsread("read", "in.tif", "-o", "out.tif", "--window", 100, 50, 300, 200, "-b", 3, "-b", 1)
    with rasterio.open(tsread.cwd / "out.tif") as out:
        assert np.array_equal(out.read(), pixels[[2, 0], 50:250, 100:400])
        assert np.array_equal(out.read_masks(1) > 0, mask[50:250, 100:400])
        assert (out.scales, out.offsets) == ((0.004, 1), (-0.08, 0))
        assert (out.descriptions[0], out.units[0]) == ("NDVI", "1")
        assert out.tags(1)["wavelength"] == "842"


def test_a_geometry_needs_a_nodata_value(tsread, land):
    profile = {"driver": "GTiff", "width": 9, "height": 9, "count": 1, "dtype": "uint8", "crs": "EPSG:4326"}
    profile["transform"] = rasterio.transform.from_bounds(*land.bbox, 9, 9)
    with rasterio.open(tsread.cwd / "in.tif", "w", **profile) as out:
        out.write(np.full((1, 9, 9), 7, "uint8"))
    (tsread.cwd / "park.geojson").write_text(json.dumps(triangle(land)))
    command = ("read", "in.tif", "-o", "out.tif", "--geometry", "park.geojson")
    assert "--nodata" in tsread.fails(*command)
    tsread(*command, "--nodata", "255")
    with rasterio.open(tsread.cwd / "out.tif") as out:
        assert out.nodata == 255
        assert set(np.unique(out.read(1))) == {7, 255}


MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def test_a_whole_tile_in_300_mb_on_many_cores(short_lived, fleeting, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os\nos.sched_getaffinity = lambda _: range(64)")
    # measured in a small process: a child's peak includes the memory of its parent at the fork
    command = [TSREAD, "read", fleeting.url(), "-o", "whole.tif", "--bbox", "6", "0", "9", "3"]
    done = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, *command],
        env={**short_lived.environ, "PYTHONPATH": str(tmp_path)},
        cwd=short_lived.cwd,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert 100 * 1024 < int(done.stdout) < 300 * 1024  # KB on Linux
    with rasterio.open(fleeting.file()) as tile, rasterio.open(short_lived.cwd / "whole.tif") as out:
        assert out.transform.almost_equals(tile.transform)
        assert out.shape == tile.shape
        # across the border of two strips, over land
        for col, row in ((5000, 15500), (15800, 16300), (20000, 20000)):
            window = Window(col, row, 4000, 3000)
            assert np.array_equal(out.read(1, window=window), tile.read(1, window=window))
    assert {request.authorization for request in fleeting.requests("data")} == {"valid"}


def test_stdout(tsread, sandbox):
    done = tsread("read", sandbox.url(), "-o", "-", "--window", 9000, 15500, 40, 30, text=False)
    with rasterio.open(io.BytesIO(done.stdout)) as out, rasterio.open(sandbox.file()) as tile:
        assert np.array_equal(out.read(1), tile.read(1, window=Window(9000, 15500, 40, 30)))


def test_an_existing_file_is_refused_without_overwrite(tsread, sandbox):
    (tsread.cwd / "out.tif").write_text("mine")
    command = ("read", sandbox.url(), "-o", "out.tif", "--window", 0, 0, 10, 10)
    assert "--overwrite" in tsread.fails(*command)
    assert (tsread.cwd / "out.tif").read_text() == "mine"
    assert sandbox.requests("data") == []
    tsread(*command, "--overwrite")
    assert rasterio.open(tsread.cwd / "out.tif").shape == (10, 10)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "--bbox"),
        (["--bbox", 6, 1, 7, 0], 2, "at or above its north"),
        (["--bbox", 6, 0, 7, 1, "--window", 0, 0, 1, 1], 2, "one of"),
        (["--bbox", 6, 0, 7, 1, "--max-size", 5, "--resolution", 1], 2, "not both"),
        (["--bbox", 16, 0, 17, 1], 1, "outside of the raster"),
        (["--bbox", 6, 0, 7, 1, "--bbox-crs", "EPSG:99999"], 2, "EPSG code is unknown"),
        (["--window", 40000, 0, 10, 10], 1, "outside of the raster"),
        (["--geometry", "none.geojson"], 2, "does not exist"),
        (["--geometry", "bad.geojson"], 1, "bad.geojson is not GeoJSON (line 1)"),
        (["--geometry", "point.geojson"], 1, "holds no polygon"),
        (["--window", 0, 0, 9, 9, "--band", 2], 1, "bands 1 to 1"),
    ],
)
def test_bad_input_gets_one_line(tsread, sandbox, options, code, said):
    (tsread.cwd / "bad.geojson").write_text("{nonsense")
    (tsread.cwd / "point.geojson").write_text('{"type": "Point", "coordinates": [6, 1]}')
    assert said in tsread.fails("read", sandbox.file(), "-o", "out.tif", *options, code=code)
    assert not (tsread.cwd / "out.tif").exists()
