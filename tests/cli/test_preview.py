"""preview: the right pixels in the right colours, from the right overview."""

import numpy as np
import pytest
import rasterio

pytestmark = pytest.mark.usefixtures("nothing_left")


def pixels_of(path):
    with rasterio.open(path) as png:
        assert png.driver == "PNG"
        return png.read()


def test_the_plain_picture_is_the_overview_in_its_own_colours(tsread, sandbox, land):
    west, south, east, north = land.bbox
    box = (west - 0.2, south, east, north + 0.1)
    tsread("preview", sandbox.url(), "-o", "out.png", "--no-legend", "--bbox", *box, "--size", 200)
    sent = sum(request.sent for request in sandbox.requests("data"))
    assert sent < sandbox.file().stat().st_size / 4
    picture = pixels_of(tsread.cwd / "out.png")
    assert max(picture.shape[1:]) == 200
    with rasterio.open(sandbox.file()) as tile:
        window = tile.window(*box).round_offsets().round_lengths()
        with rasterio.Env(GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD="1"):
            expected = tile.read(1, window=window, out_shape=picture.shape[1:])
        colours = np.zeros((4, 256), "uint8")
        for value, colour in tile.colormap(1).items():
            colours[:, value] = colour
        colours[:, 0] = 0  # no data: transparent
    assert np.array_equal(picture, colours[:, expected])


def test_islands_keep_their_shape_away_from_the_equator(tsread):
    profile = {
        "driver": "GTiff",
        "width": 400,
        "height": 400,
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:4326",
    }
    with rasterio.open(
        tsread.cwd / "in.tif", "w", **profile, transform=rasterio.transform.from_origin(10, 62, 0.01, 0.01)
    ) as out:
        out.write(np.arange(160000).reshape(1, 400, 400).astype("uint8"))
    tsread("preview", "in.tif", "-o", "out.png", "--no-legend")
    _, rows, columns = pixels_of(tsread.cwd / "out.png").shape
    assert rows == 400
    assert columns == pytest.approx(400 * np.cos(np.radians(60)), abs=1)


def test_the_map_has_the_legend_and_the_pixels(tsread, sandbox, land):
    pytest.importorskip("PIL")
    tsread("preview", sandbox.url(), "-o", "map.png", "--bbox", *land.bbox, "--size", 300)
    tsread("preview", sandbox.url(), "-o", "plain.png", "--bbox", *land.bbox, "--size", 300, "--no-legend")
    sheet, plain = pixels_of(tsread.cwd / "map.png"), pixels_of(tsread.cwd / "plain.png")
    _, height, width = plain.shape
    assert sheet.shape[1] > height
    assert sheet.shape[2] > width + 40
    # the sheet contains the map, pixel by pixel
    rows, columns = (sheet.shape[1] - height, sheet.shape[2] - width)
    shown = np.where(plain[3] == 255, plain[:3], np.array([238, 242, 245], "uint8")[:, None, None])
    places = [
        (row, column)
        for row in range(rows)
        for column in range(columns)
        if np.array_equal(sheet[:, row + height // 2, column : column + width], shown[:, height // 2])
        and np.array_equal(sheet[:, row : row + height, column : column + width], shown)
    ]
    assert len(places) == 1
    # each class in the picture is in the legend, to the right of the map
    legend = sheet[:, :, places[0][1] + width + 2 :].reshape(3, -1).T
    colours = {tuple(colour) for colour in legend.tolist()}
    present = {tuple(c) for c in plain[:3, plain[3] == 255].T.tolist()}
    assert present <= colours


def test_without_pillow_the_error_names_the_extra(tsread, sandbox, tmp_path):
    (tmp_path / "PIL.py").write_text("raise ImportError('not installed')")
    tsread.environ["PYTHONPATH"] = str(tmp_path)
    line = tsread.fails("preview", sandbox.url(), "-o", "out.png")
    assert "rio-terrascope[preview]" in line
    assert "--no-legend" in line
    assert sandbox.requests("data") == []
    tsread("preview", sandbox.url(), "-o", "out.png", "--no-legend", "--size", 64)


def test_a_continuous_raster_is_stretched(tsread):
    rng = np.random.default_rng(3)
    values = rng.normal(0.5, 0.1, (300, 200)).astype("float32")
    values[:30] = np.nan
    profile = {"driver": "GTiff", "width": 200, "height": 300, "count": 1, "dtype": "float32"}
    profile |= {"nodata": float("nan"), "crs": "EPSG:32632"}
    with rasterio.open(
        tsread.cwd / "in.tif", "w", **profile, transform=rasterio.transform.from_origin(3e5, 5e6, 10, 10)
    ) as out:
        out.write(values, 1)
    tsread("preview", "in.tif", "-o", "out.png", "--no-legend")
    picture = pixels_of(tsread.cwd / "out.png")
    assert not picture[3, :30].any()
    low, high = np.nanpercentile(values, [2, 98])
    assert {tuple(c) for c in picture[:3, values <= low].T.tolist()} == {(68, 1, 84)}
    assert {tuple(c) for c in picture[:3, values >= high].T.tolist()} == {(253, 231, 37)}
    pytest.importorskip("PIL")
    tsread("preview", "in.tif", "-o", "map.png")


def test_three_bands_are_red_green_and_blue(tsread):
    ramp = np.arange(0, 40000, dtype="uint16").reshape(200, 200)
    profile = {"driver": "GTiff", "width": 200, "height": 200, "count": 4, "dtype": "uint16"}
    profile |= {"crs": "EPSG:32632", "transform": rasterio.transform.from_origin(3e5, 5e6, 10, 10)}
    with rasterio.open(tsread.cwd / "in.tif", "w", **profile) as out:
        out.write(np.stack([ramp, ramp.T, ramp[::-1], ramp * 0]))
    tsread("preview", "in.tif", "-o", "out.png", "--no-legend", "-b", 2, "-b", 1, "-b", 4)
    picture = pixels_of(tsread.cwd / "out.png")
    assert picture[0, 199, 199] == 255
    assert picture[1, 199, 199] == 255
    assert not picture[2].any()
    assert "three" in tsread.fails("preview", "in.tif", "-o", "x.png", "-b", 1, "-b", 2, code=2)
