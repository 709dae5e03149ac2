"""The network options of GDAL that count: in an Env, in the process, in the environment."""

import base64
import itertools
import socket
import threading

import pytest
import rasterio
import trustme
from rasterio.errors import RasterioIOError

from raw_server import response, unused_port
from rio_terrascope import certificates, terrascope_env
from rio_terrascope.reading.fetching.options import options_for
from tls_front import tls_front


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in (*certificates.VARIABLES, "http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for variable in (name, name.upper()):
            monkeypatch.delenv(variable, raising=False)


def sent(server):
    return server.requests[-1].headers


@pytest.fixture
def open_server(raw):
    server = raw(lambda request, connection: server.part(request))
    return server


@pytest.fixture
def elsewhere(monkeypatch):
    """Servers on this machine count as others, which are asked through proxies."""
    monkeypatch.setattr("rio_terrascope.reading.fetching.options.stays_here", lambda url: False)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A folder with a certificate for this machine, and the certificate of its authority."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


def test_defaults_are_those_of_env_open():
    options = options_for("https://open.example/a.tif", covered=False)
    assert (options.retries, options.delay) == (3, 0.5)
    assert (options.connect_seconds, options.stall_seconds, options.slow) == (10, 30, 100)
    assert (options.whole_seconds, options.proxy, options.user_agent) == (None, None, None)
    assert options.checks_certificate


def test_where_options_are_found(monkeypatch):
    url = "https://open.example/a.tif"
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "7")
    with rasterio.Env(GDAL_HTTP_TIMEOUT=5, GDAL_HTTP_USERAGENT="me"):
        options = options_for(url, covered=False)
    assert (options.retries, options.whole_seconds, options.user_agent) == (7, 5, "me")
    found = []
    with rasterio.Env(GDAL_HTTP_CONNECTTIMEOUT=3, GDAL_HTTP_MAX_RETRY="nonsense"):
        found.append(options_for(url, covered=False))
    assert (found[0].connect_seconds, found[0].retries) == (3, 3)


def test_options_of_a_block(sandbox, fetcher):
    with terrascope_env(GDAL_HTTP_MAX_RETRY=1, GDAL_HTTP_HEADERS="Authorization: no,X-Key: k"):
        source = fetcher.open(sandbox.url())
    assert source.options.retries == 1
    assert {name: str(value) for name, value in source.options.headers.items()} == {"X-Key": "k"}


def test_headers_of_the_users_own(open_server, fetch, tmp_path):
    file = tmp_path / "headers"
    file.write_text("X-Filed: f\nAuthorization: Basic filed\n")
    with rasterio.Env(GDAL_HTTP_HEADERS='X-One: 1,"X-Two: a, b"', GDAL_HTTP_HEADER_FILE=str(file)):
        assert fetch(open_server.url, (0, 10))[0].error is None
    headers = sent(open_server)
    assert (headers["x-one"], headers["x-two"], headers["x-filed"]) == ("1", "a, b", "f")
    assert headers["authorization"] == "Basic filed"
    with rasterio.Env(GDAL_HTTP_USERPWD="me:secret"):
        fetch(open_server.url, (0, 10))
    assert base64.b64decode(sent(open_server)["authorization"].split()[1]) == b"me:secret"


def test_a_user_in_the_url(open_server, fetch):
    (one,) = fetch(open_server.url.replace("//", "//me:s%40cret@"), (0, 10))
    assert one.error is None
    assert base64.b64decode(sent(open_server)["authorization"].split()[1]) == b"me:s@cret"
    assert "cret" not in repr(one)


def test_the_token_of_a_block_is_no_header_of_the_users(open_server, sandbox, fetch):
    with terrascope_env(scope="env", GDAL_HTTP_HEADERS="X-Key: k"):
        assert fetch(open_server.url, (0, 10))[0].error is None
    assert sent(open_server)["x-key"] == "k"
    assert "authorization" not in sent(open_server)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_proxy_for_http(raw, fetch, monkeypatch, how):
    proxy = raw(lambda request, connection: proxy.part(request))
    address = proxy.url.removeprefix("http://").removesuffix("/a.tif")
    if how == "variable":
        monkeypatch.setenv("http_proxy", f"http://me:s%40cret@{address}")
        options = {}
    else:
        options = {"GDAL_HTTP_PROXY": address, "GDAL_HTTP_PROXYUSERPWD": "me:s%40cret"}
    with rasterio.Env(**options):
        (one,) = fetch("http://open.example/a.tif?x=1", (0, 10))
    assert one.error is None
    assert proxy.requests[0].path == "http://open.example/a.tif?x=1"
    assert base64.b64decode(sent(proxy)["proxy-authorization"].split()[1]) == b"me:s@cret"


@pytest.mark.usefixtures("elsewhere")
def test_a_proxy_for_https(raw, sandbox, fetch, certificate, monkeypatch):
    asked = []

    def tunnel(request, connection):
        asked.append(request.path)
        host, _, port = request.path.rpartition(":")
        there = socket.create_connection((host, int(port)))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        def pump(one, other):
            while data := one.recv(65536):
                other.sendall(data)

        threading.Thread(target=pump, args=(there, connection), daemon=True).start()
        pump(connection, there)

    proxy = raw(tunnel)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "authority.pem"))
    with tls_front(str(certificate / "server.pem"), sandbox.other_origin) as front:
        url = sandbox.other_url().replace(sandbox.other_origin, front)
        with rasterio.Env(GDAL_HTTP_PROXY=proxy.url.removesuffix("/a.tif")):
            (one,) = fetch(url, (0, 10))
    assert one.error is None
    assert asked == [front.removeprefix("https://")]


def test_an_empty_proxy_option_turns_the_variables_off(open_server, fetch, elsewhere, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port()}")
    with rasterio.Env(GDAL_HTTP_PROXY=""):
        assert fetch(open_server.url, (0, 10))[0].error is None


@pytest.mark.parametrize("checked", [True, False])
def test_certificates(sandbox, fetch, certificate, monkeypatch, checked):
    with tls_front(str(certificate / "server.pem"), sandbox.other_origin) as front:
        url = sandbox.other_url().replace(sandbox.other_origin, front)
        with rasterio.Env(GDAL_HTTP_UNSAFESSL=not checked):
            (one,) = fetch(url, (0, 10))
        if not checked:
            assert one.error is None
            return
        assert isinstance(one.error, RasterioIOError)
        assert "not signed by an authority known here" in str(one.error)
        assert "SSL_CERT_FILE" in one.error.__notes__[0]
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "authority.pem"))
        assert fetch(url, (0, 10))[0].error is None
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "missing.pem"))
        (one,) = fetch(url, (0, 10))
        assert "SSL_CERT_FILE names" in str(one.error)


def test_retries(raw, fetch):
    for retries, count in itertools.product([0, 2], [1]):
        server = raw(lambda request, connection: response(500))
        with rasterio.Env(GDAL_HTTP_MAX_RETRY=retries, GDAL_HTTP_RETRY_DELAY=0.01):
            fetch(server.url, (0, 10))
        assert len(server.requests) == retries + count
