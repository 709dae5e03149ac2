"""What servers and files say cannot command the terminal, and no URL shows a password or a signature."""

import json

import pytest
import rasterio

EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x07\x9b31m\u202ebackwards"
QUERY = "sig=0123456789abcdef"


def is_harmless(text):
    return all(c.isprintable() or c in "\n\t" for c in text)


@pytest.fixture
def evil_tile(tsread):
    path = tsread.cwd / "evil.tif"
    profile = {"driver": "GTiff", "width": 5, "height": 4, "count": 1, "dtype": "uint8"}
    profile |= {"transform": rasterio.transform.from_origin(0, 0, 1, 1), "crs": "EPSG:4326"}
    with rasterio.open(path, "w", **profile) as out:
        out.update_tags(EVIL=EVIL, legend=EVIL)
        out.set_band_description(1, f"NDVI{EVIL}")
    return path.name


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_tags_of_a_file(tsread, evil_tile, options):
    done = tsread("info", evil_tile, *options)
    assert "backwards" in done.stdout
    assert is_harmless(done.stdout + done.stderr)


def test_statistics_of_a_file(tsread, evil_tile):
    assert is_harmless(tsread("stats", evil_tile).stdout)


@pytest.mark.fault(
    "`tsread`: terminal escapes in tags, in catalogue items, or in a server's reason",
    sees="a replacement character for each",
    requests="as without",
)
@pytest.mark.parametrize("options", [["--table"], ["--json"], ["--asset", "nothing"]])
def test_items_of_a_catalogue(tsread, sandbox, options):
    asked = ["search", "terrascope-s2-ndvi-v2", "--limit", "1"]
    found = json.loads(tsread(*asked, "--json").stdout)
    (item,) = found["features"]
    item["id"] += EVIL
    item["properties"]["datetime"] += EVIL
    item["assets"] = {f"{name}{EVIL}": asset for name, asset in item["assets"].items()}
    answer = {"body": json.dumps(found), "content_type": "application/geo+json"}
    sandbox.fail(200, None, server="catalogue", match="search", **answer)
    done = tsread(*asked, *options, code="--asset" in options)
    assert "backwards" in done.stdout + done.stderr
    assert is_harmless(done.stdout + done.stderr)


def test_an_item_with_a_url_that_is_none(tsread, sandbox):
    asked = ["search", "terrascope-s2-ndvi-v2", "--limit", "1"]
    found = json.loads(tsread(*asked, "--json").stdout)
    for asset in found["features"][0]["assets"].values():
        asset["href"] += f"?{QUERY}{EVIL}"
    answer = {"body": json.dumps(found), "content_type": "application/geo+json"}
    sandbox.fail(200, None, server="catalogue", match="search", **answer)
    line = tsread.fails(*asked)
    assert "is not a URL" in line
    assert QUERY not in line
    assert is_harmless(line)


def test_the_reason_of_a_catalogue(tsread, sandbox):
    body = json.dumps({"code": "BadRequest", "description": f"no{EVIL}"})
    sandbox.fail(400, None, server="catalogue", match="search", body=body, content_type="application/json")
    assert is_harmless(tsread.fails("search", "terrascope-s2-ndvi-v2"))


@pytest.mark.parametrize("command", [["token"], ["doctor"], ["-vv", "token"]])
def test_the_reason_of_a_login_service(tsread, sandbox, command):
    body = json.dumps({"error": "invalid_grant", "error_description": f"no{EVIL}"})
    sandbox.fail(400, None, server="sso", body=body, content_type="application/json")
    done = tsread(*command, code=1)
    assert "backwards" in done.stdout + done.stderr
    assert is_harmless(done.stdout.replace("\x1b[31m", "").replace("\x1b[0m", "") + done.stderr)


@pytest.mark.fault(
    "`tsread`: a URL with a password or a signature, refused or not, with `-vv` too",
    sees="host and path only",
    requests="as without",
)
@pytest.mark.parametrize("command", ["info", "doctor"])
@pytest.mark.parametrize("verbose", [[], ["-vv"]])
@pytest.mark.parametrize("status", [None, 403])
def test_no_password_or_query_of_a_url_is_shown(tsread, sandbox, command, verbose, status):
    if status is not None:
        sandbox.fail(status, None, match=QUERY)
        sandbox.fail(status, None, server="other", match=QUERY)
    environ = tsread.environ | {"GDAL_HTTP_MAX_RETRY": "0"}
    other = sandbox.other_url().replace("://", "://me:pa55word@")
    for url in (f"{sandbox.url()}?{QUERY}", f"{other}?{QUERY}", f"/vsicurl/{other}?{QUERY}"):
        done = tsread(*verbose, command, url, code=int(status is not None), environ=environ)
        assert "0123456789abcdef" not in done.stdout + done.stderr
        assert "pa55word" not in done.stdout + done.stderr


def test_a_url_that_is_none(tsread):
    line = tsread.fails("info", "http://[::1/a.tif?secret=1")
    assert "secret" not in line
    assert "Traceback" not in tsread("doctor", "http://[::1/a.tif?secret=1", code=1).stderr
