"""search: prints what the catalogue has, in the form that other commands read."""

import json
import shutil

import click
import numpy as np
import pytest
import rasterio

from rio_terrascope.cli.inputs import path_or_url
from rio_terrascope.sandbox import Sandbox

MAP_2020 = "esa-worldcover-map-10m-2020-v1"
NDVI = "terrascope-s2-ndvi-v2"
BOX = (4.43, 50.95, 4.55, 51.0)  # in both tiles of the NDVI

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_hrefs_one_a_line_without_a_login(stranger, sandbox):
    done = stranger("search", MAP_2020, "--bbox", 6.4, 0, 7.5, 1.8)
    assert done.stdout == f"{sandbox.url()}\n"
    assert done.stderr == ""
    assert {request.server for request in sandbox.requests()} == {"catalogue"}
    assert {request.authorization for request in sandbox.requests()} == {"none"}


def test_time_and_box_and_limit(tsread):
    june = tsread("search", NDVI, "--bbox", *BOX, "--datetime", "2021-06").stdout.splitlines()
    assert len(june) == 2
    assert all("/2021/06/14/" in href for href in june)
    assert len(tsread("search", NDVI, "--datetime", "../2021-05-30").stdout.splitlines()) == 4
    few = tsread("search", NDVI, "--limit", 3)
    assert len(few.stdout.splitlines()) == 3
    assert few.stderr == ""


def test_nothing_found_is_no_failure(tsread):
    done = tsread("search", NDVI, "--bbox", 0, 0, 1, 1, "--json")
    assert json.loads(done.stdout) == {"type": "FeatureCollection", "features": []}
    assert done.stderr == "Nothing found.\n"


def test_a_table(tsread, sandbox):
    head, row = tsread("search", MAP_2020, "--table").stdout.splitlines()
    assert head.split() == ["ID", "Time", "Asset", "Size", "Href"]
    size = f"{sandbox.file().stat().st_size / 1e6:,.1f}"
    id_ = "ESA_WorldCover_10m_2020_v100_N00E006"
    assert row.split() == [id_, "2020-01-01T00:00:00Z", "Map", size, "MB", sandbox.url()]


def test_an_asset_by_name(tsread):
    assert "/2021/06/14/" in tsread("search", NDVI, "--asset", "NDVI", "--datetime", "2021-06").stdout
    line = tsread.fails("search", NDVI, "--asset", "B04")
    assert "'B04'" in line
    assert "NDVI" in line


def test_paths_where_files_are_here(tmp_path, tiles, tsread):
    root = tmp_path / "archive"
    with Sandbox(tiles=tiles, archive=root) as server:
        file = root / server.url().partition("/download/")[2]
        file.parent.mkdir(parents=True)
        shutil.copy(server.file(), file)
        tsread.environ |= server.environ
        assert tsread("search", MAP_2020).stdout == f"{server.url()}\n"
        assert tsread("search", MAP_2020, "--prefer-local").stdout == f"{file}\n"
        found = tsread("search", MAP_2020, "--prefer-local", "--json").stdout
        server.clear()
        box = ("--bbox", 6.6, 0.2, 6.61, 0.21, "--json")
        assert "--prefer-local" in tsread.fails("stats", "-", *box, input=found)
        facts = tsread("stats", "-", "--prefer-local", *box, input=found)
        assert json.loads(facts.stdout)["name"] == str(file)
        assert server.requests() == []


# Other commands read the output


def test_stats_of_all_that_was_found(tsread, sandbox):
    items = tsread("search", NDVI, "--bbox", *BOX, "--datetime", "2021-06", "--json").stdout
    hrefs = [item["assets"]["NDVI"]["href"] for item in json.loads(items)["features"]]
    assert len(hrefs) == 2
    facts = json.loads(tsread("stats", "-", "--json", input=items).stdout)
    assert [found["name"] for found in facts] == hrefs
    for found in facts:
        with rasterio.open(sandbox.file(found["name"])) as scene:
            pixels = scene.read(1, masked=True).compressed()
        (band,) = found["bands"]
        assert band["count"] == pixels.size
        assert band["mean"] == pytest.approx(pixels.mean())
    assert sum(request.grant == "password" for request in sandbox.requests("sso")) == 1
    piped = tsread("stats", "-", "--bbox", *BOX, input="\n".join(hrefs)).stdout
    assert piped == tsread("stats", *hrefs, "--bbox", *BOX).stdout
    assert [line for line in piped.splitlines() if "://" in line] == hrefs


def test_one_raster_keeps_its_plain_answer(tsread):
    item = json.dumps(tsread.json("search", NDVI, "--bbox", *BOX, "--datetime", "2021-06")["features"][0])
    facts = json.loads(tsread("stats", "-", "--bbox", *BOX, "--json", input=item).stdout)
    assert set(facts) == {"name", "bands"}


def test_read_and_preview_take_it_from_stdin(tsread, sandbox):
    href = tsread("search", NDVI, "--bbox", *BOX, "--limit", 1).stdout
    tsread("read", "-", "-o", "part.tif", "--window", 100, 200, 300, 400, input=href)
    with rasterio.open(sandbox.file(href.strip())) as scene, rasterio.open(tsread.cwd / "part.tif") as part:
        window = ((200, 600), (100, 400))
        assert np.array_equal(part.read(1), scene.read(1, window=window))
        assert (part.nodata, part.scales, part.offsets) == (255, (0.004,), (-0.08,))
    tsread("preview", "-", "-o", "ndvi.png", "--size", 100, input=href)
    assert (tsread.cwd / "ndvi.png").stat().st_size > 1000


def test_those_take_one(tsread):
    line = tsread.fails("preview", "-", "-o", "out", input="a.tif\nb.tif\n")
    assert "2 rasters" in line
    assert "--limit 1" in line
    assert list(tsread.cwd.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n\n", "names no raster"),
        ('{"type": "FeatureCollection", "features": []}', "names no raster"),
        ("{", "not a STAC item"),
        ('{"type": "FeatureCollection", "features": [7]}', "not a STAC item"),
    ],
)
def test_stdin_that_names_no_raster(tsread, text, said):
    assert said in tsread.fails("stats", "-", input=text)


# What the catalogue names is a URL, or nothing is opened


VRT = (
    "<VRTDataset rasterXSize='1' rasterYSize='1'><VRTRasterBand dataType='Byte' band='1'><SimpleSource>"
    "<SourceFilename relativeToVRT='0'>{file}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
)
HOSTILE = {
    "path": "{file}",
    "file URL": "file://{file}",
    "/vsi path": "/vsisubfile/0_100000000,{file}",
    "inline VRT": VRT,
    "vrt connection": "vrt://{file}",
    "subdataset": "GTIFF_DIR:1:{file}",
    "rasterio's scheme": "zip+file://{file}!x",
    "two lines": "https://127.0.0.1:9/a.tif\n{file}",
    "spaces": " {file}",
    "no text": None,
}


@pytest.mark.parametrize("prefer_local", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_only_urls_are_opened(tmp_path, name, prefer_local):
    file = tmp_path / "there.tif"
    file.touch()
    href = HOSTILE[name] and HOSTILE[name].format(file=file)
    if prefer_local and name == "file URL":
        assert path_or_url(href, prefer_local=True) == str(file)
        return
    with pytest.raises(click.ClickException, match=r"is not a URL .* Next: "):
        path_or_url(href, prefer_local=prefer_local)


@pytest.fixture
def hostile(sandbox, tsread):
    """An item with a path in place of a URL, which the catalogue returns for every search."""
    item = tsread.json("search", NDVI, "--bbox", *BOX, "--datetime", "2021-06")["features"][0]
    item["assets"]["NDVI"]["href"] = str(sandbox.file())
    answer = json.dumps({"type": "FeatureCollection", "features": [item], "links": []})
    sandbox.fail(
        200, None, server="catalogue", match="/search", body=answer, content_type="application/geo+json"
    )
    return item


@pytest.mark.fault(
    "an item names a path, a `/vsi` path or the text of a VRT", sees='an error: "is not a URL"', requests="0"
)
@pytest.mark.parametrize(
    "command",
    [
        ["search", NDVI],
        ["search", NDVI, "--prefer-local"],
        ["stats", "-"],
        ["stats", "-", "--prefer-local"],
        ["preview", "-", "-o", "a.png"],
        ["read", "-", "-o", "a.tif", "--window", 0, 0, 1, 1],
    ],
    ids=lambda command: " ".join(map(str, command[:3])),
)
def test_commands_open_only_urls(tsread, hostile, command):
    assert "is not a URL" in tsread.fails(*command, input=json.dumps(hostile))
    assert list(tsread.cwd.iterdir()) == []


# Errors


def test_mistakes_are_named(tsread, sandbox):
    assert "yesterday" in tsread.fails("search", NDVI, "--datetime", "yesterday", code=2)
    assert "above its north" in tsread.fails("search", NDVI, "--bbox", 4, 51, 5, 50, code=2)
    assert "beyond the poles" in tsread.fails("search", NDVI, "--bbox", 4, 51, 5, 200, code=2)
    assert "not both" in tsread.fails("search", NDVI, "--json", "--table", code=2)
    line = tsread.fails("search", "terrascope-s2-ndvi")
    assert "no collection 'terrascope-s2-ndvi'" in line
    assert f"{sandbox.catalogue_url}/collections" in line


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda sandbox: sandbox.fail(200, server="catalogue", match="/search"), "not a STAC catalogue"),
        (lambda sandbox: sandbox.fail(503, None, server="catalogue", match="/search"), "503"),
    ],
)
def test_trouble_is_one_line(tsread, sandbox, fault, said):
    fault(sandbox)
    line = tsread.fails("search", NDVI)
    assert said in line
    assert sandbox.catalogue_url.removeprefix("http://") in line
    assert "Next: " in line


def test_where_nobody_listens(tsread):
    tsread.environ["TERRASCOPE_STAC_URL"] = "http://127.0.0.1:9"
    assert "127.0.0.1:9 cannot be reached (connection refused)" in tsread.fails("search", NDVI)


def test_without_the_extra(tsread):
    (tsread.cwd / "pystac_client.py").write_text("raise ModuleNotFoundError('none', name='pystac_client')")
    tsread.environ["PYTHONPATH"] = str(tsread.cwd)
    assert "pip install 'rio-terrascope[stac]'" in tsread.fails("search", NDVI)
