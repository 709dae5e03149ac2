"""The catalogue from Python: it needs no login, and local files are read instead of URLs."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pystac
import pystac_client
import pytest
import rasterio
from pystac_client.exceptions import APIError

import rio_terrascope
from rio_terrascope import CatalogueError, SettingsError, stac, terrascope_env
from rio_terrascope.sandbox import Sandbox

MAP_2020 = "esa-worldcover-map-10m-2020-v1"
NDVI = "terrascope-s2-ndvi-v2"


@pytest.fixture
def catalog(sandbox):
    client = stac.open_catalog()
    sandbox.clear()
    return client


@pytest.fixture(scope="module")
def _archive(tiles, tmp_path_factory):
    """A sandbox as on a Terrascope machine: the first tile is in the archive, the second is not."""
    root = tmp_path_factory.mktemp("archive")
    with Sandbox(tiles=tiles, archive=root) as server:
        file = root / server.url().partition("/download/")[2]
        file.parent.mkdir(parents=True)
        shutil.copy(server.file(), file)
        yield server, file


@pytest.fixture
def archive(_archive, monkeypatch):
    server, file = _archive
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    server.clear()
    return server, file


# Opening it


def test_it_returns_a_client_of_pystac_client(catalog, sandbox):
    assert isinstance(catalog, pystac_client.Client)
    items = list(catalog.search(collections=[NDVI], bbox=(4.3, 50.95, 4.4, 51.0), datetime="2021-06").items())
    assert [item.id for item in items] == ["S2A_20210614T105031_31UES_NDVI_10M_V200"]
    assert list(catalog.search(collections=[NDVI], bbox=(0, 0, 1, 1)).items()) == []
    assert sandbox.requests("sso") == sandbox.requests("data") == []


def test_pages_are_followed(catalog, sandbox):
    items = list(catalog.search(collections=[NDVI], limit=5).items())
    assert len({item.id for item in items}) == 12
    assert [request.path for request in sandbox.requests("catalogue")] == ["/search"] * 3


def test_an_argument_wins_over_the_environment(sandbox, monkeypatch):
    monkeypatch.setenv("TERRASCOPE_STAC_URL", "https://nowhere.invalid")
    stac.open_catalog(sandbox.catalogue_url)
    monkeypatch.delenv("TERRASCOPE_STAC_URL")
    assert stac.catalogue_url() == stac.CATALOGUE_URL == "https://stac.terrascope.be"


@pytest.mark.parametrize(
    ("url", "said"),
    [("http://stac.terrascope.be", "http://"), ("https://me:secret@x", "user name"), ("x", "x")],
)
def test_only_safe_urls(url, said, monkeypatch):
    for call in (lambda: stac.open_catalog(url), stac.open_catalog):
        with pytest.raises(SettingsError, match="the catalogue's URL") as caught:
            call()
        assert said in str(caught.value)
        assert "secret" not in str(caught.value)
        monkeypatch.setenv("TERRASCOPE_STAC_URL", url)


def test_no_token_or_netrc_password_is_sent(sandbox, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password of-the-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with terrascope_env() as env:
        (item,) = stac.open_catalog().search(collections=[MAP_2020]).items()
        with env.open(item.assets["Map"].href) as dataset:
            assert dataset.crs.to_string() == item.assets["Map"].extra_fields["proj:code"]
    assert {request.authorization for request in sandbox.requests("catalogue")} == {"none"}
    assert {request.authorization for request in sandbox.requests("data")} == {"valid"}


def test_options_go_to_pystac_client(sandbox):
    seen = []
    catalog = stac.open_catalog(headers={"X-Test": "here"}, modifier=seen.append)
    list(catalog.search(collections=[MAP_2020]).items())
    assert len(seen) == 1
    assert {request.headers.get("x-test") for request in sandbox.requests("catalogue")} == {"here"}
    own = pystac_client.stac_api_io.StacApiIO()
    assert stac.open_catalog(stac_io=own)._stac_io is own


# Trouble


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda sandbox: sandbox.fail(500, server="catalogue"), "answered 500. Next: try again"),
        (
            lambda sandbox: sandbox.fail(404, server="catalogue"),
            "answered 404. Next: check TERRASCOPE_STAC_URL",
        ),
        (lambda sandbox: sandbox.fail(200, server="catalogue"), "not a STAC catalogue"),
        (lambda sandbox: sandbox.fail(200, server="catalogue", body="{}"), "not a STAC catalogue"),
        (lambda sandbox: sandbox.fail(200, server="catalogue", body="[1]"), "not a STAC catalogue"),
        (lambda sandbox: sandbox.reset(None, server="catalogue"), "cannot be reached"),
        (lambda sandbox: sandbox.truncate(None, after=20, server="catalogue"), "cannot be reached"),
    ],
)
def test_trouble_is_named_with_its_host(sandbox, fault, said):
    fault(sandbox)
    with pytest.raises(CatalogueError) as caught:
        stac.open_catalog()
    message = str(caught.value)
    assert said in message
    assert sandbox.catalogue_url.removeprefix("http://") in message
    assert "Next: " in message
    assert "<html>" not in message


def test_a_port_where_nobody_listens():
    with pytest.raises(CatalogueError, match=r"127\.0\.0\.1:9 cannot be reached \(connection refused\)"):
        stac.open_catalog("http://127.0.0.1:9")


def test_a_busy_catalogue_is_asked_again(catalog, sandbox):
    sandbox.fail(503, 2, server="catalogue")
    assert len(list(catalog.search(collections=[MAP_2020]).items())) == 1
    assert [request.status for request in sandbox.requests("catalogue")] == [503, 503, 200]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"status": 500}, "answered 500. Next: try again"),
        ({"status": 400, "body": '{"description": "no such day"}'}, "400: no such day"),
        ({"status": 422, "body": "<html>"}, "422: no reason given"),
        ({"status": 200, "body": "<html>"}, "not a STAC catalogue"),
    ],
)
def test_trouble_of_a_search_can_be_named_too(catalog, sandbox, fault, said):
    sandbox.fail(server="catalogue", **fault)
    with pytest.raises(CatalogueError, match=said), stac.catalogue_errors(sandbox.catalogue_url):
        list(catalog.search(collections=[MAP_2020]).items())


def test_searches_raise_what_pystac_client_raises(catalog, sandbox):
    sandbox.fail(500, server="catalogue")
    search = catalog.search(collections=[MAP_2020])
    with pytest.raises(APIError):
        list(search.items())


# Files on this machine


def local_href(item):
    return item.assets["Map"].extra_fields["alternate"]["local"]["href"]


def as_item(item):
    assert stac.prefer_local(item) is item
    return item.assets["Map"].get_absolute_href()


def as_asset(item):
    assert stac.prefer_local(item.assets["Map"]) is item.assets["Map"]
    return item.assets["Map"].get_absolute_href()


def as_item_collection(item):
    items = pystac.ItemCollection([item])
    assert stac.prefer_local(items) is items
    return items[0].assets["Map"].get_absolute_href()


def as_list(item):
    stac.prefer_local([item])
    return item.assets["Map"].get_absolute_href()


def as_dict(item):
    as_json = item.to_dict()
    assert stac.prefer_local(as_json) is as_json
    return as_json["assets"]["Map"]["href"]


def as_dict_of_items(item):
    as_json = pystac.ItemCollection([item]).to_dict()
    stac.prefer_local(as_json)
    return as_json["features"][0]["assets"]["Map"]["href"]


def as_href(item):
    return stac.prefer_local(local_href(item))


WAYS = [as_item, as_asset, as_item_collection, as_list, as_dict, as_dict_of_items, as_href]


@pytest.mark.parametrize("way", WAYS)
def test_the_file_is_read_without_requests(archive, way):
    server, file = archive
    (item,) = stac.open_catalog().search(collections=[MAP_2020]).items()
    href = way(item)
    assert href == (str(file) if way is as_href else f"file://{file}")
    server.clear()
    with rasterio.open(href) as dataset, rasterio.open(file) as local:
        window = ((16000, 16100), (9000, 9100))
        assert np.array_equal(dataset.read(1, window=window), local.read(1, window=window))
    assert server.requests() == []


@pytest.mark.parametrize("how", ["items", "item_collection", "items_as_dicts", "item_collection_as_dict"])
def test_as_a_modifier_of_pystac_client(archive, how, recwarn):
    server, file = archive
    found = getattr(stac.open_catalog(modifier=stac.prefer_local).search(ids=[ID_2020, ID_2021]), how)()
    found = found["features"] if how == "item_collection_as_dict" else list(found)
    items = [item if isinstance(item, dict) else item.to_dict() for item in found]
    hrefs = {item["id"]: item["assets"]["Map"]["href"] for item in items}
    assert hrefs == {ID_2020: f"file://{file}", ID_2021: server.urls[1]}
    assert [str(warning.message) for warning in recwarn if "modifier" in str(warning.message)] == []


ID_2020, ID_2021 = "ESA_WorldCover_10m_2020_v100_N00E006", "ESA_WorldCover_10m_2021_v200_N00E006"


def test_collections_and_pages_pass_through_the_modifier(archive):
    catalog = stac.open_catalog(modifier=stac.prefer_local)
    assert len(list(catalog.get_collections())) == 3
    (item,) = catalog.get_collection(MAP_2020).get_items()
    assert item.assets["Map"].href.startswith("file://")


@pytest.mark.parametrize("way", WAYS)
def test_elsewhere_nothing_changes(catalog, sandbox, way):
    (item,) = catalog.search(collections=[MAP_2020]).items()
    before = json.dumps(item.to_dict())
    assert way(item) == (local_href(item) if way is as_href else sandbox.url())
    assert json.dumps(item.to_dict()) == before


def test_an_href_that_is_not_a_local_file_is_kept(tmp_path):
    file = tmp_path / "a tile.tif"
    file.write_bytes(b"")
    asset = {"href": "https://x/y.tif", "alternate": {"local": {"href": f"file://{tmp_path}/a%20tile.tif"}}}
    assert stac.prefer_local(dict(asset))["href"] == f"file://{file}"
    asset["alternate"]["local"]["href"] = f"file://localhost{file}"
    assert stac.prefer_local(dict(asset))["href"] == f"file://{file}"
    for href in (f"file://{tmp_path}", f"file://host{file}", f"file://{file}x", f"https://x{file}", None, 7):
        asset["alternate"]["local"]["href"] = href
        assert stac.prefer_local(dict(asset))["href"] == "https://x/y.tif", href
    for alternate in ({}, {"local": {}}, {"local": None}, None, []):
        asset["alternate"] = alternate
        assert stac.prefer_local(dict(asset))["href"] == "https://x/y.tif", alternate
    assert stac.prefer_local(str(file)) == str(file)
    assert stac.prefer_local("https://x/y.tif") == "https://x/y.tif"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_not_used(tmp_path):
    file = tmp_path / "tile.tif"
    file.write_bytes(b"")
    file.chmod(0)
    assert stac.prefer_local(f"file://{file}") == f"file://{file}"


@pytest.mark.parametrize("target", [None, 7, {"a": 1}, ["file:///x"], Path("/x"), iter([])])
def test_an_object_without_assets_is_an_error(target):
    with pytest.raises(TypeError):
        stac.prefer_local(target)


# Without the extra

BLOCKED = """
import sys
for name in ("pystac", "pystac_client"):
    sys.modules[name] = None
import rio_terrascope
from rio_terrascope import *
assert rio_terrascope.stac.prefer_local({"href": "x"}) == {"href": "x"}
try:
    rio_terrascope.stac.open_catalog()
except ImportError as error:
    print(error)
"""


def test_a_missing_extra_is_named():
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=60)
    assert "pip install 'rio-terrascope[stac]'" in done.stdout, done.stderr


def test_it_is_imported_on_first_use():
    code = "import sys, rio_terrascope as r; print('rio_terrascope.stac' in sys.modules, r.stac.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["False", "rio_terrascope.stac"]
    assert "stac" in rio_terrascope.__all__


def test_several_threads_search_at_once(sandbox, in_threads):
    together = threading.Barrier(4)

    def search():
        together.wait(30)
        assert len(list(stac.open_catalog().search(collections=[NDVI], limit=5).items())) == 12

    in_threads(*[search] * 4)
