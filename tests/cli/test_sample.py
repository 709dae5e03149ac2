"""sample: the pixels of the local file at the points, with all columns kept."""

import csv
import io
import json

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

pytestmark = pytest.mark.usefixtures("nothing_left")


def points_in(land, count, seed=1):
    """Random points in the land's box, and the values of the local file there."""
    rng = np.random.default_rng(seed)
    rows, columns = (rng.integers(0, size, count) for size in land.pixels.shape)
    x = land.transform.c + (columns + rng.random(count)) * land.transform.a
    y = land.transform.f + (rows + rng.random(count)) * land.transform.e
    return x, y, land.pixels[rows, columns]


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def as_text(values):
    return [str(value) if value else "" for value in values.tolist()]


def test_values_at_points_with_all_columns_kept(tsread, sandbox, land):
    x, y, values = points_in(land, 500)
    rows = [f'"site, {n}",{lat:.12f},x,{lon:.12f}' for n, (lon, lat) in enumerate(zip(x, y, strict=True))]
    (tsread.cwd / "points.csv").write_text("Name,Latitude,Note,Longitude\n" + "\n".join(rows) + "\n")
    done = tsread("sample", sandbox.url(), "points.csv", "-o", "out.csv")
    assert done.stdout == ""
    found = table((tsread.cwd / "out.csv").read_text())
    assert list(found[0]) == ["Name", "Latitude", "Note", "Longitude", "value"]
    assert [row["Name"] for row in found] == [f"site, {n}" for n in range(500)]
    assert [row["value"] for row in found] == as_text(values)


def test_cells_that_a_spreadsheet_takes_for_formulas_are_passed_on(tsread, sandbox):
    """Documented, not changed: other programs want -1.5 and +32 2 back, and the input has them already."""
    cells = ["=1+2", "+32 2 1", "-1.5", "@SUM(A1)"]
    points = "".join(f"8.5,0.5,{cell}\n" for cell in cells)
    found = table(tsread("sample", sandbox.url(), "-", input=f"lon,lat,note\n{points}").stdout)
    assert [row["note"] for row in found] == cells
    assert "formulas" in tsread("sample", "--help").stdout


def test_no_data_and_points_outside_are_empty(tsread, sandbox):
    done = tsread("sample", sandbox.url(), "-", input="lon,lat\n8.5,0.5\n50,50\n9,1\n")
    with rasterio.open(sandbox.file()) as tile:
        assert next(tile.sample([(8.5, 0.5)]))[0] == 0
    assert [row["value"] for row in table(done.stdout)] == ["", "", ""]


def test_points_in_another_crs(tsread, sandbox, land):
    x, y, values = points_in(land, 60)
    xs, ys = transform("EPSG:4326", "EPSG:32632", x, y)
    text = "id;y;x\n" + "".join(f"{n};{b!r};{a!r}\n" for n, (a, b) in enumerate(zip(xs, ys, strict=True)))
    assert "--crs" in tsread.fails("sample", sandbox.url(), "-", input=text)
    found = table(tsread("sample", sandbox.url(), "-", "--crs", "EPSG:32632", input=text).stdout)
    assert [row["value"] for row in found] == as_text(values)


def test_geojson_points(tsread, sandbox, land):
    x, y, values = points_in(land, 20)
    features = [
        {
            "type": "Feature",
            "properties": {"name": f"São {n}", "n": n},
            "geometry": {"type": "Point", "coordinates": [lon, lat, 12.0]},
        }
        for n, (lon, lat) in enumerate(zip(x.tolist(), y.tolist(), strict=True))
    ]
    (tsread.cwd / "points.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False), encoding="utf-8"
    )
    found = table(tsread("sample", sandbox.url(), "points.geojson").stdout)
    assert list(found[0]) == ["lon", "lat", "name", "n", "value"]
    assert found[3]["name"] == "São 3"
    assert [row["value"] for row in found] == as_text(values)


def test_several_bands_and_several_rasters(tsread):
    for name, west, first in (("a.tif", 0, 10), ("b.tif", 3, 40)):
        profile = {"driver": "GTiff", "width": 3, "height": 1, "count": 2, "dtype": "float32", "nodata": -1}
        profile |= {"crs": "EPSG:4326", "transform": rasterio.transform.from_origin(west, 1, 1, 1)}
        with rasterio.open(tsread.cwd / name, "w", **profile) as out:
            out.write(np.array([[[first, first + 0.1, -1]], [[1, 2, 3]]], "float32"))
    text = "lon,lat\n0.5,0.5\n1.5,0.5\n2.5,0.5\n3.5,0.5\n"
    found = table(tsread("sample", "a.tif", "b.tif", "-", input=text).stdout)
    assert [row["value_1"] for row in found] == ["10.0", "10.1", "", "40.0"]
    assert [row["value_2"] for row in found] == ["1.0", "2.0", "3.0", "1.0"]
    found = table(tsread("sample", "a.tif", "-", "-b", 2, "--column", "second", input=text).stdout)
    assert [row["second"] for row in found] == ["1.0", "2.0", "3.0", ""]


def test_a_hundred_thousand_points_are_no_problem(tsread, sandbox, land):
    x, y, values = points_in(land, 100_000)
    text = "lon,lat\n" + "".join(f"{a:.12f},{b:.12f}\n" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    found = tsread("sample", sandbox.url(), "-", input=text).stdout.splitlines()
    assert [line.rpartition(",")[2] for line in found[1:]] == as_text(values)
    # one read per block, not per point
    assert len(sandbox.requests("data")) < 60


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lon,lat\n6.5,0.1\n6.6,north\n", "row 3: lat is 'north'"),
        ("lon,lat\n6.5,0.1\n6.6\n", "row 3 has 1 cells"),
        ("name,place\na,b\n", "no columns lon and lat"),
        ("", "no columns lon and lat"),
        ('{"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": null}]}', "feature 1"),
        ("{nonsense", "is not GeoJSON (line 1)"),
        ("lon,lat,value\n6.5,0.1,3\n", "--column"),
    ],
)
def test_points_that_cannot_be_read(tsread, sandbox, text, said):
    (tsread.cwd / "points.csv").write_text(text)
    code = 2 if "--" in said else 1
    line = tsread.fails("sample", sandbox.file(), "points.csv", "-o", "out.csv", code=code)
    assert said in line
    assert not (tsread.cwd / "out.csv").exists()


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("mine,lon,lat", ["-b", 1, "--column", "mine"]),
        ("value,lon,lat", ["-b", 1]),
        ("value_2,lon,lat", ["-b", 1, "-b", 1]),
    ],
)
def test_a_column_that_is_taken_is_found_before_anything_is_asked(stranger, sandbox, header, options):
    command = ("sample", sandbox.url(), "-", *options)
    line = stranger.fails(*command, code=2, input=f"{header}\n3,6.5,0.1\n")
    assert "Next: name another with --column. See" in line
    assert sandbox.requests() == []


def test_the_columns_of_several_bands_may_follow_each_other(tsread, sandbox):
    first = tsread("sample", sandbox.url(), "-", "-b", 1, "-b", 1, input="lon,lat\n6.5,0.1\n").stdout
    second = tsread("sample", sandbox.url(), "-", input=first).stdout
    assert second.startswith("lon,lat,value_1,value_2,value\n")


def test_no_such_points_file(tsread, sandbox):
    line = tsread.fails("sample", sandbox.url(), "none.csv")
    assert line == "Error: none.csv: No such file or directory. Next: check the path."
