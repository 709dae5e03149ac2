"""Settings: the accepted values, the refused ones, and the errors."""

import pytest

from rio_terrascope import Settings, SettingsError
from rio_terrascope.settings import url_prefixes


def test_defaults_are_terrascopes():
    settings = Settings()
    assert settings.token_url.startswith("https://sso.terrascope.be/auth/realms/terrascope/")
    assert settings.client_id == "public"
    assert settings.origins == ("https://services.terrascope.be",)
    assert settings.token_host == "sso.terrascope.be"


def test_environment_and_arguments():
    environ = {
        "TERRASCOPE_TOKEN_URL": "https://login.example/token",
        "TERRASCOPE_CLIENT_ID": "mine",
        "TERRASCOPE_ORIGINS": "https://a.example, https://B.example:8443/,",
    }
    settings = Settings.from_environ(environ)
    assert settings.token_url == "https://login.example/token"
    assert settings.client_id == "mine"
    assert settings.origins == ("https://a.example", "https://b.example:8443")
    assert Settings.from_environ(environ, origins=["https://c.example"]).origins == ("https://c.example",)
    assert Settings.from_environ({}) == Settings()
    assert Settings.from_environ({"TERRASCOPE_ORIGINS": " "}) == Settings()


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("https://services.terrascope.be/", "https://services.terrascope.be"),
        ("HTTPS://Services.Terrascope.BE:443", "https://services.terrascope.be"),
        ("https://a.example:8443", "https://a.example:8443"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://[2001:DB8::1]", "https://[2001:db8::1]"),
    ],
)
def test_origins_are_normalized(given, normal):
    assert Settings(origins=(given, normal)).origins == (normal,)


@pytest.mark.parametrize(
    "origin",
    [
        "http://services.terrascope.be",
        "http://127.0.0.1.evil.example",
        "http://localhost.example",
        "ftp://services.terrascope.be",
        "services.terrascope.be",
        "https://",
        "https://services.terrascope.be/download",
        "https://services.terrascope.be?x=1",
        "https://services.terrascope.be#x",
        "https://user@services.terrascope.be",
        "https://services.terrascope.be:99999",
        "https://services.terr\nascope.be",
        "https://services terrascope.be",
        "https://sérvices.terrascope.be",
        "https://*.terrascope.be",
        "https://[::1",
        "",
    ],
)
def test_origins_refused(origin):
    with pytest.raises(SettingsError):
        Settings(origins=(origin,))


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "٣"])
def test_limits_of_connections_refused(value):
    with pytest.raises(SettingsError, match="a whole number above 0"):
        Settings.from_environ({"TERRASCOPE_MAX_CONNECTIONS": value})


def test_limits_of_connections():
    assert Settings().max_connections == 16
    assert Settings.from_environ({"TERRASCOPE_MAX_CONNECTIONS": "4"}).max_connections == 4
    assert Settings.from_environ({"TERRASCOPE_MAX_CONNECTIONS": "4"}, max_connections=2).max_connections == 2
    with pytest.raises(SettingsError, match="max_connections is 0"):
        Settings(max_connections=0)


def test_no_origin_at_all_and_a_bare_string():
    with pytest.raises(SettingsError, match="no origin"):
        Settings(origins=())
    with pytest.raises(SettingsError, match="sequence"):
        Settings(origins="https://services.terrascope.be")  # type: ignore[arg-type]


def test_a_password_in_a_url_is_not_repeated():
    with pytest.raises(SettingsError) as raised:
        Settings(token_url="https://user:hunter2@sso.terrascope.be/token")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://sso.terrascope.be/token", "nonsense", "https://a.example/t#f", ""])
def test_token_urls_refused(url):
    with pytest.raises(SettingsError):
        Settings(token_url=url)


@pytest.mark.parametrize("client_id", ["", " ", "a\nb"])
def test_client_ids_refused(client_id):
    with pytest.raises(SettingsError):
        Settings(client_id=client_id)


@pytest.mark.parametrize(
    ("url", "covered"),
    [
        ("https://services.terrascope.be/download/a.tif", True),
        ("/vsicurl/https://services.terrascope.be/download/a.tif", True),
        ("https://services.terrascope.be:443/download/a.tif", True),
        ("HTTPS://services.terrascope.be/download/a.tif", True),  # rasterio lower-cases the scheme
        ("https://services.terrascope.be", False),
        ("https://services.terrascope.be:4430/download/a.tif", False),
        ("https://services.terrascope.be.evil.example/a.tif", False),
        ("https://user@services.terrascope.be/a.tif", False),
        ("https://SERVICES.terrascope.be/a.tif", False),  # GDAL's comparison is case-sensitive
        ("http://services.terrascope.be/a.tif", False),
        ("/data/a.tif", False),
    ],
)
def test_which_urls_the_token_goes_to(url, covered):
    assert Settings().covers(url) is covered


def test_prefixes_name_a_default_port_too():
    assert url_prefixes("https://a.example") == ("https://a.example/", "https://a.example:443/")
    assert url_prefixes("http://127.0.0.1:8000") == ("http://127.0.0.1:8000/",)
