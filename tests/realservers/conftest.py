"""Starts the servers once, and points the environment to them."""

import pytest
import trustme

from realservers import servers
from rio_terrascope import certificates
from rio_terrascope.gdal import cache

LIFETIME = 4  # of an access token, in seconds; the servers accept only whole seconds


@pytest.fixture(scope="session")
def _identity():
    if missing := servers.missing():
        pytest.fail(f"not installed: {', '.join(missing)}. Next: apt-get install {servers.PACKAGES}")
    with servers.identity(LIFETIME) as server:
        yield server


@pytest.fixture(scope="session")
def _apache(tiles, _nginx, authority):
    files = authority / "ca.pem", authority / "server.pem"
    with servers.apache(tiles[0], _nginx, *files) as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A folder with a private certificate authority, and a certificate for the servers."""
    folder = tmp_path_factory.mktemp("authority")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


@pytest.fixture(scope="session")
def _nginx(tiles, _identity, authority):
    with servers.nginx(tiles[0], _identity, authority / "server.pem") as server:
        yield server


@pytest.fixture(scope="session")
def _proxy():
    with servers.tinyproxy() as server:
        yield server


@pytest.fixture(autouse=True)
def nobody_to_trust(monkeypatch):
    """Remove the machine's settings for certificates and proxies."""
    for name in certificates.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    yield
    cache.forget_all()  # this closes connections too


def _enter(monkeypatch, server, token_url):
    monkeypatch.setenv("TERRASCOPE_USERNAME", servers.USERNAME)
    monkeypatch.setenv("TERRASCOPE_PASSWORD", servers.PASSWORD)
    monkeypatch.setenv("TERRASCOPE_TOKEN_URL", token_url)
    monkeypatch.setenv("TERRASCOPE_ORIGINS", server.url)
    server.clear()


@pytest.fixture
def identity(_identity):
    _identity.clear()
    return _identity


@pytest.fixture
def apache(_apache, identity, monkeypatch):
    """Apache httpd with mod_auth_openidc. The environment points to it."""
    _enter(monkeypatch, _apache, f"{identity.url}/o/token/")
    return _apache


@pytest.fixture
def nginx(_nginx, identity, monkeypatch):
    """nginx with TLS, in front of the login too. The environment points to it; nothing is trusted yet."""
    _enter(monkeypatch, _nginx, f"{_nginx.login_url}/o/token/")
    return _nginx


@pytest.fixture
def proxy(_proxy):
    _proxy.clear()
    return _proxy
