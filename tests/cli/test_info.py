"""info: the facts that rasterio gives for the local file."""

import json

import rasterio


def test_info_says_what_the_file_is(tsread, sandbox):
    facts = tsread.json("info", sandbox.url())
    with rasterio.open(sandbox.file()) as tile:
        assert facts["driver"] == "GTiff"
        assert (facts["width"], facts["height"], facts["count"]) == (tile.width, tile.height, 1)
        assert (facts["dtype"], facts["nodata"], facts["crs"]) == ("uint8", 0, "EPSG:4326")
        assert facts["bounds"] == list(tile.bounds)
        assert facts["res"] == list(tile.res)
        assert facts["block_shape"] == [1024, 1024]
        assert facts["overviews"] == tile.overviews(1) == [2, 4, 8, 16, 32, 64]
        assert facts["tags"] == tile.tags()
        assert facts["colormap"]["10"] == list(tile.colormap(1)[10])
    assert facts["labels"]["10"] == "Tree cover"
    table = tsread("info", sandbox.url()).stdout
    for words in ("36000 x 36000", "EPSG:4326", "1024 x 1024", "Tree cover", "#006400", "6 0 9 3"):
        assert words in table


def test_a_local_file_without_much_to_say(tsread):
    path = tsread.cwd / "plain.tif"
    profile = {"driver": "GTiff", "width": 5, "height": 4, "count": 2, "dtype": "float32"}
    profile |= {"nodata": float("nan"), "transform": rasterio.transform.from_origin(0, 0, 1, 1)}
    with rasterio.open(path, "w", **profile) as out:
        out.set_band_description(2, "NDVI")
        out.scales = (1.0, 0.004)
    done = tsread("info", "plain.tif")
    assert "NDVI" in done.stdout
    assert "none" in done.stdout
    facts = json.loads(tsread("info", "plain.tif", "--json").stdout)
    assert facts["crs"] is None
    assert facts["nodata"] == "nan"
    assert facts["bands"][1]["scale"] == 0.004
