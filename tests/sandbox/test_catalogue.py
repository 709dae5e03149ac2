"""The catalogue: how it describes the files, and that a search finds the right items and no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pystac_client
import pytest
import rasterio
import requests
from pystac.validation import validate_dict
from rasterio.warp import transform_bounds

from rio_terrascope.sandbox import Sandbox

from .conftest import login, reset

NDVI = "terrascope-s2-ndvi-v2"
MAP_2020, MAP_2021 = "esa-worldcover-map-10m-2020-v1", "esa-worldcover-map-10m-2021-v2"
OVERLAP = (4.43, 50.95, 4.55, 51.0)  # lies in both NDVI tiles


def write_raster(path: Path, west: float, north: float) -> Path:
    profile = {"driver": "GTiff", "width": 30, "height": 20, "count": 1, "dtype": "uint8", "nodata": 0}
    transform = rasterio.Affine(0.1, 0, west, 0, -0.15, north)
    with rasterio.open(path, "w", **profile, crs="EPSG:4326", transform=transform) as dataset:
        dataset.write(np.full((1, 20, 30), 10, "uint8"))
    return path


@pytest.fixture(scope="module")
def running_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox with two small tiles of 2020, one of 2021, and a file that is not a raster."""
    folder = tmp_path_factory.mktemp("catalogue")
    tiles = [
        write_raster(folder / "ESA_WorldCover_10m_2020_v100_N00E006_Map.tif", 6, 3),
        write_raster(folder / "ESA_WorldCover_10m_2020_v100_N00E177_Map.tif", 177, 3),
        write_raster(folder / "ESA_WorldCover_10m_2021_v200_N00E006_Map.tif", 6, 3),
        folder / "ESA_WorldCover_10m_2021_v200_N03E006_Map.tif",
        write_raster(folder / "elsewhere.tif", 6, 3),
    ]
    tiles[3].write_text("this is not a raster")
    with Sandbox(tiles=tiles, archive=folder / "archive") as sandbox:
        yield sandbox


@pytest.fixture
def catalogue(running_catalogue: Sandbox) -> Sandbox:
    return reset(running_catalogue)


@pytest.fixture
def stac_client(catalogue: Sandbox) -> pystac_client.Client:
    return pystac_client.Client.open(catalogue.catalogue_url)


def get(catalogue: Sandbox, path: str, **parameters: Any) -> Any:
    answer = requests.get(catalogue.catalogue_url + path, params=parameters, timeout=10)
    answer.raise_for_status()
    return answer.json()


def found(catalogue: Sandbox, **asked: Any) -> list[str]:
    """Search by GET and by POST, and check that both find the same."""
    flat = {
        name: ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        for name, value in asked.items()
    }
    by_get = [item["id"] for item in get(catalogue, "/search", limit=100, **flat)["features"]]
    answer = requests.post(
        f"{catalogue.catalogue_url}/search", json={"limit": 100, **asked}, timeout=10
    ).json()
    assert [item["id"] for item in answer["features"]] == by_get
    assert answer["numberMatched"] == answer["numberReturned"] == len(by_get)
    return by_get


# Contents


def test_landing_page_and_collections(catalogue: Sandbox, stac_client: pystac_client.Client) -> None:
    landing = get(catalogue, "/")
    validate_dict(landing, extensions=[])
    for link in landing["links"]:
        if link.get("method") != "POST":
            assert requests.get(link["href"], timeout=10).status_code == 200, link
    assert get(catalogue, "/conformance")["conformsTo"] == landing["conformsTo"]
    assert {collection.id for collection in stac_client.get_collections()} == {MAP_2020, MAP_2021, NDVI}
    assert stac_client.get_collection(NDVI).item_assets["NDVI"].properties["roles"] == ["data"]
    for collection in get(catalogue, "/collections")["collections"]:
        validate_dict(collection, extensions=[])


def test_the_items_are_stac_and_look_like_terrascopes(
    catalogue: Sandbox, stac_client: pystac_client.Client
) -> None:
    items = list(stac_client.search(limit=100).items_as_dicts())
    assert len(items) == 15
    for item in items:
        validate_dict(item, extensions=[])
        assert item["stac_version"] == "1.1.0"
        extensions = {url.split("/")[3] for url in item["stac_extensions"]}
        assert extensions == {"authentication", "alternate-assets", "file", "projection", "raster"}
        scheme = item["properties"]["auth:schemes"]["oidc"]
        assert scheme["type"] == "openIdConnect"
        assert "token_endpoint" in requests.get(scheme["openIdConnectUrl"], timeout=10).json()
        (asset,) = item["assets"].values()
        assert asset["auth:refs"] == ["oidc"]
        assert asset["href"].startswith(f"{catalogue.origin}/download/")
        assert asset["type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
        assert asset["roles"] == ["data"]


def test_items_describe_their_files(catalogue: Sandbox, stac_client: pystac_client.Client) -> None:
    archive = catalogue.file().with_name("archive")
    for item in stac_client.search(collections=[NDVI, MAP_2020], datetime="2020/2021-06-01").items():
        ((name, asset),) = item.assets.items()
        file = catalogue.file(asset.href)
        fields = asset.extra_fields
        with rasterio.open(file) as dataset:
            assert fields["proj:code"] == str(dataset.crs)
            assert fields["proj:shape"] == list(dataset.shape)
            assert fields["proj:transform"] == list(dataset.transform)[:6]
            assert fields["proj:bbox"] == list(dataset.bounds)
            assert (fields["data_type"], fields["nodata"]) == (dataset.dtypes[0], dataset.nodata)
            # the sides of a UTM tile are slightly curved in degrees
            bounds = transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
            assert item.bbox == pytest.approx(bounds, abs=1e-3)
            if name == "NDVI":
                assert (fields["raster:scale"], fields["raster:offset"]) == (0.004, -0.08)
                assert (dataset.scales[0], dataset.offsets[0]) == (0.004, -0.08)
        assert fields["file:size"] == file.stat().st_size
        relative = asset.href.partition("/download/")[2].replace("Sentinel2/", "TERRASCOPE_Sentinel2/")
        assert fields["alternate"]["local"]["href"] == f"file://{archive}/{relative}"


def test_an_item_by_its_id(catalogue: Sandbox, stac_client: pystac_client.Client) -> None:
    name = "ESA_WorldCover_10m_2020_v100_N00E006"
    item = stac_client.get_collection(MAP_2020).get_item(name)
    assert item.get_self_href() == f"{catalogue.catalogue_url}/collections/{MAP_2020}/items/{name}"
    for path in (f"{MAP_2021}/items/{name}", f"{MAP_2020}/items/x", "x", "x/items", f"{NDVI}/items/x/y"):
        answer = requests.get(f"{catalogue.catalogue_url}/collections/{path}", timeout=10)
        assert (answer.status_code, answer.json()["code"]) == (404, "NotFoundError"), path


def test_tiles_that_are_added_or_changed_later(catalogue: Sandbox, tmp_path: Path) -> None:
    stem = "ESA_WorldCover_10m_2021_v200_S03W060_Map"
    file = write_raster(tmp_path / "any.tif", -60, 0)
    path = f"/download/WORLDCOVER/ESA_WORLDCOVER_10M_2021_V200/MAP/{stem}/{stem}.tif"
    asked = {"collections": [MAP_2021], "bbox": (-60, -3, -57, 0)}
    assert found(catalogue, **asked) == []
    url = catalogue.add_file(file, path)
    assert found(catalogue, **asked) == [stem.removesuffix("_Map")]
    write_raster(file, -63, 0)
    assert found(catalogue, **asked | {"bbox": (-62, -3, -61, 0)}) == [stem.removesuffix("_Map")]
    catalogue.add_file(file, f"/download/other/{stem}.tif")
    assert len(found(catalogue, collections=[MAP_2021], bbox=(-70, -3, -57, 0))) == 1
    file.unlink()
    assert found(catalogue, **asked) == []
    assert requests.get(url, timeout=10).status_code == 401


def test_a_scene_is_made_once_and_needs_a_token(catalogue: Sandbox) -> None:
    (item,) = get(catalogue, f"/collections/{NDVI}/items", datetime="2021-07-19T10:50:31Z", limit=1)[
        "features"
    ]
    href = item["assets"]["NDVI"]["href"]
    assert requests.get(href, timeout=10).status_code == 401
    token = {"Authorization": f"Bearer {login(catalogue)['access_token']}"}
    first, second = (requests.get(href, headers=token, timeout=30).content for _ in range(2))
    assert first == second == catalogue.file(href).read_bytes()
    assert len(first) == item["assets"]["NDVI"]["file:size"]
    with pytest.raises(KeyError):
        catalogue.file(href.replace("20210719", "20210720"))


def test_where_scenes_overlap_they_agree(catalogue: Sandbox) -> None:
    items = get(catalogue, "/search", collections=NDVI, datetime="2021-06-14T00:00:00Z/2021-06-15T00:00:00Z")
    paths = [catalogue.file(item["assets"]["NDVI"]["href"]) for item in items["features"]]
    with rasterio.open(paths[0]) as east, rasterio.open(paths[1]) as west:
        assert (east.overviews(1), east.block_shapes[0]) == ([2, 4], (512, 512))
        shared = int((west.bounds.right - east.bounds.left) / 10)
        pixels = east.read(1)
        assert 900 < shared < 1100
        assert np.array_equal(pixels[:, :shared], west.read(1)[:, -shared:])
        assert 0.02 < (pixels == east.nodata).mean() < 0.6
        assert len(np.unique(pixels)) > 50


# Searching


def test_by_collection_and_id(catalogue: Sandbox) -> None:
    assert len(found(catalogue)) == 15
    assert len(found(catalogue, collections=[NDVI])) == 12
    assert len(found(catalogue, collections=[MAP_2020, MAP_2021])) == 3
    assert found(catalogue, collections=["x"]) == []
    name = "ESA_WorldCover_10m_2020_v100_N00E006"
    assert found(catalogue, ids=[name, "x"]) == [name]


def test_by_bbox(catalogue: Sandbox) -> None:
    assert found(catalogue, collections=[NDVI], bbox=(0, 0, 1, 1)) == []
    assert found(catalogue, bbox=(100, 10, 101, 11)) == []
    assert len(found(catalogue, bbox=(6.5, 0.5, 6.6, 0.6))) == 2
    assert len(found(catalogue, bbox=(6.5, 0.5, -10, 6.6, 0.6, 100))) == 2
    assert len(found(catalogue, collections=[NDVI], bbox=OVERLAP)) == 12
    only_west = found(catalogue, collections=[NDVI], bbox=(4.3, 50.95, 4.4, 51.0))
    assert len(only_west) == 6
    assert all("31UES" in name for name in only_west)
    assert found(catalogue, bbox=(178, 0, -178, 1)) == ["ESA_WorldCover_10m_2020_v100_N00E177"]


def test_by_intersects(catalogue: Sandbox) -> None:
    # a triangle whose bounding box intersects the tile, but which does not
    corner = [[5, 0], [6.5, -1.5], [5, -1.5], [5, 0]]
    assert found(catalogue, bbox=(5, -1.5, 6.5, 0)) != []
    for ring, count in ((corner, 0), ([[6, 0], [7, 1], [6, 1], [6, 0]], 2)):
        geometry = {"type": "Polygon", "coordinates": [ring]}
        answer = requests.post(f"{catalogue.catalogue_url}/search", json={"intersects": geometry}, timeout=10)
        assert answer.json()["numberMatched"] == count


@pytest.mark.parametrize(
    ("when", "count"),
    [
        ("2021-06-14T10:50:31Z", 2),
        ("2021-06-14T12:50:31+02:00", 2),
        ("2021-06-14T10:50:32Z", 0),
        ("2021-05-30T10:50:31Z/2021-07-19T10:50:31Z", 6),
        ("2021-05-30T10:50:32Z/2021-07-19T10:50:30Z", 2),
        ("../2021-05-30T23:59:59Z", 4),
        ("/2021-05-30T23:59:59Z", 4),
        ("2021-09-01T00:00:00Z/..", 4),
        ("2021-09-01T00:00:00Z/", 4),
        ("2022-01-01T00:00:00Z/..", 0),
    ],
)
def test_by_time(catalogue: Sandbox, when: str, count: int) -> None:
    assert len(found(catalogue, collections=[NDVI], datetime=when)) == count


def test_a_year_long_item_matches_every_day_of_the_year(catalogue: Sandbox) -> None:
    assert len(found(catalogue, collections=[MAP_2020], datetime="2020-07-01T00:00:00Z")) == 2
    assert found(catalogue, collections=[MAP_2021], datetime="2020-07-01T00:00:00Z") == []


@pytest.mark.parametrize(
    "asked",
    [
        {"datetime": "yesterday"},
        {"datetime": "2021-06-14"},
        {"datetime": "../.."},
        {"datetime": "2021-06-14T00:00:00Z/2020-06-14T00:00:00Z"},
        {"bbox": "1,2,3"},
        {"bbox": "1,2,3,x"},
        {"bbox": "0,1,1,0"},
        {"limit": "0"},
        {"limit": "many"},
        {"intersects": "{}"},
        {"intersects": '{"type": "Point", "coordinates": [0, 0]}', "bbox": "0,0,1,1"},
    ],
)
def test_invalid_parameters_are_refused(catalogue: Sandbox, asked: dict[str, str]) -> None:
    answer = requests.get(f"{catalogue.catalogue_url}/search", params=asked, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["description"]


def test_invalid_bodies_and_methods_are_refused(catalogue: Sandbox) -> None:
    for body in (b"[]", b"{", b"\xff"):
        assert requests.post(f"{catalogue.catalogue_url}/search", data=body, timeout=10).status_code == 400
    assert requests.post(f"{catalogue.catalogue_url}/collections", timeout=10).status_code == 405
    assert requests.put(f"{catalogue.catalogue_url}/search", timeout=10).status_code == 405


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pages(catalogue: Sandbox, stac_client: pystac_client.Client, method: str) -> None:
    catalogue.clear()
    search = stac_client.search(collections=[NDVI], bbox=OVERLAP, limit=5, method=method)
    assert search.matched() == 12
    catalogue.clear()
    pages = list(search.pages())
    assert [len(page.items) for page in pages] == [5, 5, 2]
    items = [item for page in pages for item in page.items]
    assert len({item.id for item in items}) == 12
    assert [item.datetime for item in items] == sorted((item.datetime for item in items), reverse=True)
    assert [request.method for request in catalogue.requests("catalogue")] == [method] * 3
    assert len(list(stac_client.search(collections=[NDVI], limit=5, max_items=7, method=method).items())) == 7


def test_pages_of_a_collection(stac_client: pystac_client.Client) -> None:
    items = list(stac_client.get_collection(NDVI).get_items())
    assert len(items) == 12
    assert all(isinstance(item, pystac.Item) for item in items)


# Journal and faults


def test_the_journal_shows_its_requests(catalogue: Sandbox) -> None:
    get(catalogue, "/search", collections=NDVI)
    requests.get(catalogue.catalogue_url, headers={"Authorization": "Bearer x"}, timeout=10)
    first, second = catalogue.requests("catalogue")
    assert (first.method, first.path, first.query) == ("GET", "/search", f"collections={NDVI}")
    assert (first.authorization, second.authorization) == ("none", "present")
    assert catalogue.requests() == [first, second]
    origins = {catalogue.catalogue_url, catalogue.origin, catalogue.sso_origin, catalogue.other_origin}
    assert len(origins) == 4


def test_it_fails_when_told_to(catalogue: Sandbox) -> None:
    catalogue.fail(500, server="catalogue", match="/search")
    assert requests.get(catalogue.catalogue_url, timeout=10).status_code == 200
    answers = [requests.post(f"{catalogue.catalogue_url}/search", json={}, timeout=10) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [500, 200]
    assert answers[0].headers["Content-Type"].startswith("text/html")
    catalogue.reset(server="catalogue")
    with pytest.raises(requests.ConnectionError):
        requests.get(catalogue.catalogue_url, timeout=10)
    catalogue.truncate(server="catalogue", after=100)
    with pytest.raises(requests.RequestException):
        requests.get(catalogue.catalogue_url, timeout=10)
