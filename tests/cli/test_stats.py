"""stats: compared with counts by numpy, and with areas of an independent geodesic computation."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.features import geometry_mask

pyproj = pytest.importorskip("pyproj")
GEOD = pyproj.Geod(ellps="WGS84")


def coordinates(transform, points):
    columns, rows = np.array(points).T
    return transform.c + columns * transform.a, transform.f + rows * transform.e


def geodesic_area(transform, row):
    """A pixel's area in km2; parallels are not geodesics, so they are followed in small steps."""
    columns = np.linspace(0, 1, 3)
    ring = [(c, row) for c in columns] + [(c, row + 1) for c in columns[::-1]]
    lon, lat = coordinates(transform, ring)
    return abs(GEOD.polygon_area_perimeter(lon, lat)[0]) / 1e6


def expected_classes(pixels, transform, counts):
    areas = np.array([geodesic_area(transform, row) for row in range(len(pixels))])
    return {
        int(value): (
            int(((pixels == value) & counts).sum()),
            float(((pixels == value) & counts).sum(axis=1) @ areas),
        )
        for value in np.unique(pixels[counts])
    }


def check(classes, expected):
    assert {found["value"] for found in classes} == set(expected)
    total = sum(area for _, area in expected.values())
    for found in classes:
        count, area = expected[found["value"]]
        assert found["pixels"] == count
        assert found["area_km2"] == pytest.approx(area, rel=1e-6)
        assert found["share"] == pytest.approx(area / total, rel=1e-6)


def test_classes_of_a_box(tsread, sandbox, land):
    classes = tsread.json("stats", sandbox.url(), "--bbox", *land.bbox)["classes"]
    check(classes, expected_classes(land.pixels, land.transform, land.pixels != 0))
    assert {found["label"] for found in classes} >= {"Tree cover"}
    text = tsread("stats", sandbox.url(), "--bbox", *land.bbox).stdout
    for found in classes:
        line = next(line for line in text.splitlines() if line.split()[0] == str(found["value"]))
        assert f"{found['pixels']:,}" in line
        assert f"{found['area_km2']:,.3f}" in line


def test_classes_inside_a_geometry(tsread, sandbox, land):
    west, south, east, north = land.bbox
    ring = [[west, south], [east, south], [west, north], [west, south]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    (tsread.cwd / "park.geojson").write_text(json.dumps(geometry))
    inside = geometry_mask([geometry], land.pixels.shape, land.transform, invert=True)
    classes = tsread.json("stats", sandbox.url(), "--geometry", "park.geojson")["classes"]
    check(classes, expected_classes(land.pixels, land.transform, inside & (land.pixels != 0)))


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:3857", "EPSG:3035"])
def test_classes_of_a_projected_map(tsread, crs):
    size, shape = 250.0, (400, 300)
    x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(7, 61)
    transform = rasterio.transform.from_origin(x, y, size, size)
    pixels = np.repeat(np.array([[1], [2], [3], [0]], "uint8"), 100, axis=0).repeat(300, axis=1)
    profile = {"driver": "GTiff", "width": 300, "height": 400, "count": 1, "dtype": "uint8", "nodata": 0}
    with rasterio.open(tsread.cwd / "map.tif", "w", **profile, crs=crs, transform=transform) as out:
        out.write(pixels, 1)
        out.write_colormap(1, {value: (value, 9, 9, 255) for value in (1, 2, 3)})
        out.update_tags(legend="1 water\n2 wood\n")
    classes = tsread.json("stats", "map.tif")["classes"]
    assert [found["label"] for found in classes] == ["water", "wood", "class 3"]
    to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    for number, found in enumerate(classes):
        top, bottom = 100 * number, 100 * (number + 1)
        along = np.linspace(0, 300, 301)
        down = np.linspace(top, bottom, 101)
        ring = [*((c, top) for c in along), *((300, r) for r in down)]
        ring += [*((c, bottom) for c in along[::-1]), *((0, r) for r in down[::-1])]
        lon, lat = to_degrees.transform(*coordinates(transform, ring))
        area = abs(GEOD.polygon_area_perimeter(lon, lat)[0]) / 1e6
        assert found["area_km2"] == pytest.approx(area, rel=1e-6)
    assert shape == pixels.shape


def test_continuous_rasters(tsread):
    rng = np.random.default_rng(2)
    pixels = rng.normal(1e6, 3, (2, 2100, 2300)).astype("float32")
    pixels[0, :50] = -9999
    pixels[1, 5, 5] = np.nan
    profile = {"driver": "GTiff", "width": 2300, "height": 2100, "count": 2, "dtype": "float32"}
    profile |= {"nodata": -9999, "crs": "EPSG:32632", "tiled": True}
    profile["transform"] = rasterio.transform.from_origin(300000, 5000000, 10, 10)
    with rasterio.open(tsread.cwd / "in.tif", "w", **profile) as out:
        out.write(pixels)
    bands = tsread.json("stats", "in.tif")["bands"]
    for band, values in zip(bands, (pixels[0, 50:], pixels[1][~np.isnan(pixels[1])]), strict=True):
        values = values.astype("float64")
        assert band["count"] == values.size
        assert (band["min"], band["max"]) == (values.min(), values.max())
        assert band["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert band["std"] == pytest.approx(values.std(), rel=1e-9)
    assert "1e+06" in tsread("stats", "in.tif", "-b", 2).stdout


def test_a_box_of_sea_has_no_classes(tsread, sandbox):
    assert tsread.json("stats", sandbox.url(), "--bbox", 8.4, 0.4, 8.5, 0.5)["classes"] == []
