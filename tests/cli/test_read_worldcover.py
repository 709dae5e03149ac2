"""worldcover: tiles are joined, missing tiles are sea, and an error is never taken for sea."""

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_the_list_needs_no_login(stranger, sandbox):
    done = stranger("worldcover", "--bbox", 5, -1, 7, 1, "--year", 2020, "--list")
    urls = done.stdout.split()
    assert len(urls) == 4
    assert sandbox.url("/download/WORLDCOVER/").split("/download")[0] in urls[0]
    assert any("v100_N00E006_Map.tif" in url for url in urls)
    assert any("v100_S03E003_Map.tif" in url for url in urls)
    assert sandbox.requests() == []


def test_a_mosaic_over_tiles_and_sea(tsread, sandbox, land):
    _west, south, east, north = land.bbox
    box = (5.9, south, east, north)
    done = tsread("worldcover", "--bbox", *box, "--year", 2020, "-o", "out.tif")
    assert "N00E003" in done.stderr
    assert "sea" in done.stderr
    assert "N00E006" not in done.stderr
    with rasterio.open(sandbox.file()) as tile, rasterio.open(tsread.cwd / "out.tif") as out:
        width = out.width - 1200  # 0.1 degrees of sea
        window = Window(0, land.window.row_off, width, land.window.height)
        assert out.shape == (land.window.height, 1200 + land.window.col_off + land.window.width)
        assert out.bounds == pytest.approx(box)
        assert not out.read(1, window=Window(0, 0, 1200, out.height)).any()
        pixels = out.read(1, window=Window(1200, 0, width, out.height))
        assert np.array_equal(pixels, tile.read(1, window=window))
        assert out.nodata == 0
        assert out.colormap(1)[10] == tile.colormap(1)[10]
        assert "ESA WorldCover project 2020" in out.tags()["copyright"]
    sea = [request for request in sandbox.requests("data") if "N00E003" in request.path]
    assert {request.status for request in sea} == {404}
    assert len(sea) <= 2


def test_a_box_equal_to_one_tile_is_one_tile(tsread, sandbox):
    done = tsread("worldcover", "--bbox", 6, 0, 9, 3, "--year", 2020, "--resolution", 0.01, "-o", "out.tif")
    assert done.stderr == ""
    assert all("N00E006" in request.path for request in sandbox.requests("data"))
    with rasterio.open(sandbox.file()) as tile, rasterio.open(tsread.cwd / "out.tif") as out:
        assert out.bounds == tile.bounds
        assert out.shape == (300, 300)


def test_across_the_antimeridian(tsread):
    box, bounds = (179, 0, -179, 1), (179, 0, 181, 1)
    done = tsread("worldcover", "--bbox", *box, "--resolution", 0.001, "-o", "out.tif")
    assert "W180" in done.stderr
    with rasterio.open(tsread.cwd / "out.tif") as out:
        assert out.bounds == pytest.approx(bounds)


@pytest.mark.parametrize(("status", "said"), [(403, "403"), (503, "503")])
def test_trouble_is_never_taken_for_sea(tsread, sandbox, status, said):
    sandbox.fail(status, None, match="N00E006")
    tsread.environ["GDAL_HTTP_MAX_RETRY"] = "0"
    command = ("worldcover", "--bbox", 5.9, 0.1, 6.1, 0.2, "--year", 2020, "-o", "out.tif")
    assert said in tsread.fails(*command)
    assert not (tsread.cwd / "out.tif").exists()


def test_a_refused_token_is_never_taken_for_sea(tsread, sandbox):
    sandbox.fail(401, None)
    line = tsread.fails("worldcover", "--bbox", 5.9, 0.1, 6.1, 0.2, "-o", "out.tif")
    assert "401" in line


def test_bad_boxes(tsread):
    assert "south" in tsread.fails("worldcover", "--bbox", 5, 1, 6, 0, "--list", code=2)
    assert "2020" in tsread.fails("worldcover", "--bbox", 5, 0, 6, 1, "--year", 2019, "--list", code=2)
    assert "--list" in tsread.fails("worldcover", "--bbox", 5, 0, 6, 1, code=2)
