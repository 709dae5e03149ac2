"""Any input from outside is either understood or refused with a plain error."""

import csv
import json
import math
import re
from urllib.parse import urlsplit

import pytest
import responses
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from rio_terrascope import Settings, SettingsError, TerrascopeError, Token, worldcover
from rio_terrascope.analysis.vector import read_points
from rio_terrascope.auth.credentials import Credentials, find_credentials
from rio_terrascope.auth.oidc import TokenEndpoint, refusals
from rio_terrascope.errors import CredentialsNotFoundError
from rio_terrascope.gdal import libgdal
from rio_terrascope.settings import url_prefixes

# Function-scoped fixtures are shared by all examples, which does no harm here. There are no deadlines,
# because the machine may be busy. The examples are always the same, so that no test fails at random.
settings.register_profile(
    "here",
    deadline=None,
    derandomize=True,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("here")

PASSWORD = "s3cret-of-the-tests"
OPTION = "GDAL_HTTP_HEADER_FILE"


# Origins and URLs

HOSTS = st.sampled_from(
    [
        "services.terrascope.be",
        "Services.TERRASCOPE.be",
        "services.terrascope.be.",
        "services.terrascope.be.evil.example",
        "evil-services.terrascope.be",
        "terrascope.be",
        "xn--trrascope-c4a.be",
        "térrascope.be",
        "127.0.0.1",
        "127.0.0.10",
        "127.1",
        "0x7f.0.0.1",
        "localhost",
        "[::1]",
        "[::01]",
        "[2001:DB8::1]",
        "[2001:db8::1]",
        "[::ffff:127.0.0.1]",
    ]
) | st.from_regex(r"[a-zA-Z0-9.-]{1,12}", fullmatch=True)
PORTS = st.sampled_from(["", ":", ":80", ":443", ":8000", ":80000", ":0443", ":443@evil.example", ":-1"])
SCHEMES = st.sampled_from(
    ["https", "http", "HTTPS", "Https", "HTTP", "ftp", "/vsicurl/https", "/vsicurl/http"]
)
USERS = st.sampled_from(["", "", "", "user@", "user:password@", "services.terrascope.be@", "@"])
PATHS = st.sampled_from(
    [
        "",
        "/",
        "/download/x.tif",
        "//x",
        "/@evil.example",
        "\\@evil.example/",
        "?x",
        "#x",
        "/../..",
        "/%2e%2e",
        " /",
    ]
)


@st.composite
def addresses(draw, paths=PATHS):
    return f"{draw(SCHEMES)}://{draw(USERS)}{draw(HOSTS)}{draw(PORTS)}{draw(paths)}"


def accepted(origin):
    try:
        return Settings(origins=(origin,))
    except SettingsError:
        return None


@given(addresses(st.sampled_from(["", "/"])) | st.text(max_size=40))
@example("https://services.terrascope.be:443")
@example("http://127.0.0.1:8000/")
@example("https://[::1")
def test_an_origin_is_refused_or_normalized(origin):
    settings_ = accepted(origin)
    if settings_ is None:
        return
    (normal,) = settings_.origins
    parts = urlsplit(normal)
    assert normal == f"{parts.scheme}://{parts.netloc}"
    assert parts.scheme in ("http", "https")
    assert parts.hostname
    assert parts.username is parts.password is None
    assert (parts.hostname, parts.scheme) == (urlsplit(origin).hostname, urlsplit(origin).scheme)
    assert accepted(normal).origins == (normal,)
    if parts.scheme == "http":
        assert parts.hostname == "localhost" or parts.hostname == "::1" or parts.hostname.startswith("127.")


ORIGINS = st.sampled_from(
    [
        "https://services.terrascope.be",
        "https://services.terrascope.be:8443",
        "https://services.terrascope.be.",
        "https://xn--trrascope-c4a.be",
        "https://[2001:db8::1]",
        "http://127.0.0.1:8000",
        "http://localhost",
        "http://[::1]:8000",
    ]
)


@given(ORIGINS, addresses())
@example("https://services.terrascope.be", "https://services.terrascope.be:443/download/x.tif")
@example("https://services.terrascope.be", "https://services.terrascope.be@evil.example/")
@example("https://services.terrascope.be", "HTTPS://services.terrascope.be/x")
@example("https://services.terrascope.be", "https://Services.terrascope.be/x")
@example("http://127.0.0.1:8000", "http://127.0.0.1:80000/x")
@example("http://[::1]:8000", "http://[::1]:8000/x")
def test_covered_urls_are_those_that_gdal_sends_the_token_to(origin, url):
    """Check that by RFC 6454 the URL really belongs to the origin."""
    settings_ = Settings(origins=(origin,))
    prefixes = [f"/vsicurl/{prefix}" for prefix in url_prefixes(settings_.origins[0])]
    for prefix in prefixes:
        libgdal.load().VSISetPathSpecificOption(prefix.encode(), OPTION.encode(), b"/a/file")
    try:
        # rasterio lower-cases the scheme, and nothing else
        scheme, separator, rest = url.partition("://")
        path = url if url.startswith("/vsicurl/") else f"/vsicurl/{scheme.lower()}{separator}{rest}"
        matched = libgdal.get_path_option(path, OPTION) is not None
    finally:
        for prefix in prefixes:
            libgdal.load().VSISetPathSpecificOption(prefix.encode(), OPTION.encode(), None)
    assert settings_.covers(url) == matched
    if matched:
        there, here = urlsplit(url.removeprefix("/vsicurl/")), urlsplit(settings_.origins[0])
        default = {"https": 443, "http": 80}[here.scheme]
        assert (there.scheme, there.hostname) == (here.scheme, here.hostname)
        assert (there.port or default) == (here.port or default)
        assert there.username is None


@given(st.text(max_size=60) | addresses())
def test_a_token_url_is_refused_or_safe(url):
    try:
        settings_ = Settings(token_url=url)
    except SettingsError as error:
        before, at, _ = url.rpartition("@")  # this part may be a password
        assert not at or len(before) < 4 or before not in str(error)
        return
    parts = urlsplit(settings_.token_url)
    assert parts.scheme == "https" or parts.hostname in ("localhost", "::1") or parts.hostname[:4] == "127."
    assert "@" not in parts.netloc


@given(st.dictionaries(st.sampled_from(["TOKEN_URL", "CLIENT_ID", "ORIGINS"]), st.text(max_size=60)))
@example({"ORIGINS": ",,"})
@example({"ORIGINS": "https://a.example,https://a.example"})
def test_an_environment_is_refused_or_understood(variables):
    environ = {f"TERRASCOPE_{name}": value for name, value in variables.items()}
    try:
        settings_ = Settings.from_environ(environ)
    except SettingsError:
        return
    assert settings_.origins
    assert settings_.token_url
    assert settings_.client_id.strip()


# Token answers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "access_token": JSON | st.text(max_size=40) | st.just("eyJ.a.b"),
        "expires_in": JSON | st.sampled_from([300, 0, -1, 1e308, 2, "300", 10**400]),
        "refresh_token": JSON | st.just("eyR"),
        "refresh_expires_in": JSON | st.sampled_from([0, 3600]),
        "token_type": JSON | st.sampled_from(["bearer", "Bearer", "mac"]),
        "scope": JSON,
        "error": JSON | st.sampled_from(["invalid_grant", "invalid_client"]),
        "error_description": JSON | st.just(f"no account has the password {PASSWORD}\r\n"),
        "something else": JSON,
    },
)
BODIES = st.binary(max_size=100) | FIELDS.map(lambda fields: json.dumps(fields).encode())


@given(st.sampled_from([200, 201, 204, 302, 400, 401, 403, 404, 418, 429, 500, 503, 599]), BODIES)
@example(200, b'{"access_token": "a\\r\\nX-Evil: 1", "expires_in": 300}')
@example(200, b'{"access_token": "eyJ.a.b", "expires_in": 300}')
@example(200, b"[" * 100_000)
@example(401, b'{"error": "invalid_grant", "error_description": "s3cret-of-the-tests"}')
def test_an_answer_is_a_token_or_a_plain_error(status, body):
    endpoint = TokenEndpoint(Settings(), sleep=lambda seconds: None)
    refusals.clear()  # an earlier example had the same password refused
    with responses.RequestsMock() as server:
        server.post(Settings().token_url, body=body, status=status)
        try:
            token = endpoint.password_grant("somebody", PASSWORD, attempts=1)
        except TerrascopeError as error:
            assert PASSWORD not in str(error)
            assert str(error).isprintable()
            assert "sso.terrascope.be" in str(error)
            return
    assert status == 200
    assert isinstance(token, Token)
    # a token must not be able to end the header line (RFC 6750, section 2.1)
    assert re.fullmatch(r"[A-Za-z0-9._~+/=-]+", token.access_token)
    assert math.isfinite(token.expires_at)
    assert token.access_token not in repr(token)
    assert token.refresh_token is None or token.refresh_token not in repr(token)


# ~/.netrc

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
NETRC = st.lists(
    st.sampled_from(
        [
            "machine",
            "login",
            "password",
            "account",
            "default",
            "macdef",
            "sso.terrascope.be",
            PASSWORD,
            "#",
            "\n",
            '"',
        ]
    )
    | WORDS,
    max_size=20,
).map(" ".join)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "given"


@given(NETRC.map(str.encode) | st.binary(max_size=200))
@example(b"machine sso.terrascope.be login me password " + PASSWORD.encode())
@example(b"machine sso.terrascope.be login me password")
@example(b"default login me password " + PASSWORD.encode())
def test_a_netrc_has_credentials_or_is_ignored(file, content):
    file.write_bytes(content)
    file.chmod(0o600)
    try:
        found = find_credentials(Settings(), environ={"NETRC": str(file)})
    except CredentialsNotFoundError as error:
        assert PASSWORD not in str(error)
        return
    assert isinstance(found, Credentials)
    assert found.username
    assert found.password
    assert b"sso.terrascope.be" in content, "another service's password"
    password = found.password.reveal()
    assert password not in repr(found).replace("<secret>", "") or password in found.username + found.source


# WorldCover's tiles


@given(st.integers(-60, 59), st.integers(-30, 29))
def test_a_tile_is_named_by_its_corner(column, row):
    west, south = 3 * column, 3 * row
    (tile,) = worldcover.tiles((west, south, west + 3, south + 3), 2021, origin="https://a.example")
    assert tile.bounds == (west, south, west + 3, south + 3)
    northing, easting = re.fullmatch(r"([NS]\d{2})([EW]\d{3})", tile.name).groups()
    assert int(northing[1:]) * (-1 if northing[0] == "S" else 1) == south
    assert int(easting[1:]) * (-1 if easting[0] == "W" else 1) == west
    assert tile.url.count(tile.name) == 2


DEGREES_EAST = st.floats(-180, 180, allow_nan=False)
DEGREES_NORTH = st.floats(-90, 90, allow_nan=False)


@given(st.tuples(DEGREES_EAST, DEGREES_NORTH, DEGREES_EAST, DEGREES_NORTH))
@example((179.0, -1.0, -179.0, 1.0))
@example((-180.0, -90.0, 180.0, 90.0))
@example((3.0, 0.0, 6.0, 3.0))
def test_tiles_cover_a_box_once(box):
    west, south, east, north = box
    assume(south + 1e-3 < north and abs(west - east) > 1e-3)
    found = worldcover.tiles(box, 2020, origin="https://a.example")
    assert len({tile.name for tile in found}) == len(found)
    width = east - west if west < east else east + 360 - west
    for share in (0.0001, 0.5, 0.9999):
        x = (west + share * width + 180) % 360 - 180
        y = south + share * (north - south)
        assert any(t.west <= x < t.west + 3 and t.south <= y < t.south + 3 for t in found)
    assert len(found) <= (math.ceil(width / 3) + 1) * (math.ceil((north - south) / 3) + 1)


# Points

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
CELLS = st.text(st.characters(codec="utf-8"), max_size=12)


@given(st.binary(max_size=200) | CELLS.map(str.encode) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b'{"type": "FeatureCollection", "features": [null]}')
@example(b'{"type": "Feature", "properties": [1], "geometry": {"type": "Point", "coordinates": [1, 2]}}')
@example(b'{"type": "Point", "coordinates": [[], {}]}')
@example(b"lon,lat\n1,2\n\n3,nan\n")
@example(b"lon,lat\n1,2\n3\n")
@example(b"{" * 100_000)
def test_a_file_has_points_or_is_refused(file, content):
    file.write_bytes(content)
    try:
        points = read_points(str(file))
    except ValueError as error:
        assert str(file) in str(error)
        return
    assert points.coordinates.shape == (len(points.rows), 2)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, CELLS), max_size=5), st.sampled_from(",;\t"))
def test_a_table_is_read_as_it_was_written(file, rows, delimiter):

    with open(file, "w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, delimiter=delimiter)
        writer.writerow(["Lon", "note", "LAT"])
        writer.writerows((repr(lon), note, repr(lat)) for lon, lat, note in rows)
    points = read_points(str(file))
    assert points.columns == ["Lon", "note", "LAT"]
    assert points.coordinates.tolist() == [[lon, lat] for lon, lat, _ in rows]
    assert [row[1] for row in points.rows] == [note for _, _, note in rows]
