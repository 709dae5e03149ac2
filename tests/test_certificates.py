"""Certificates: one variable is enough for the login and for GDAL, and errors are in plain words."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import pytest
import rasterio
import trustme

from helpers import RIO, TSREAD, assert_same_pixels, some_windows
from rio_terrascope import CatalogueError, TokenEndpointError, certificates, stac, terrascope_env
from rio_terrascope.gdal import cache, messages

FRONT = Path(__file__).with_name("tls_front.py")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A folder with a private authority, as a file and as a folder for OpenSSL, and its certificates."""
    ca = trustme.CA()
    folder = tmp_path_factory.mktemp("authority")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "folder").mkdir()
    ca.cert_pem.write_to_path(folder / "folder" / "ca.pem")
    subprocess.run(["openssl", "rehash", folder / "folder"], check=True)
    ca.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    ca.issue_cert("terrascope.example").private_key_and_cert_chain_pem.write_to_path(folder / "other.pem")
    return folder


def in_front(certificate, sandbox):
    """Put TLS in front of the sandbox's servers, and yield the environment that points there."""
    inner = [sandbox.token_url, sandbox.origin, sandbox.catalogue_url]
    ports = [str(urlsplit(url).port) for url in inner]
    with subprocess.Popen(
        [sys.executable, FRONT, certificate, *ports], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        login, data, catalogue = (f"https://127.0.0.1:{process.stdout.readline().strip()}" for _ in ports)
        yield {
            "TERRASCOPE_TOKEN_URL": login + urlsplit(sandbox.token_url).path,
            "TERRASCOPE_ORIGINS": data,
            "TERRASCOPE_STAC_URL": catalogue + urlsplit(sandbox.catalogue_url).path,
        }
        process.stdin.close()


@pytest.fixture(scope="module")
def fronts(authority, _long_running):
    yield from in_front(authority / "server.pem", _long_running)


@pytest.fixture
def secured(sandbox, fronts, monkeypatch):
    """The URL of the tile over TLS. No authority is trusted yet."""
    for name in certificates.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(certificates.GDAL_VARIABLE, certifi.where())  # as importing rasterio does
    for name, value in fronts.items():
        monkeypatch.setenv(name, value)
    yield sandbox.url().replace(sandbox.origin, fronts["TERRASCOPE_ORIGINS"])
    cache.forget_all()


@pytest.mark.parametrize(
    ("variable", "kind"),
    [(variable, "ca.pem") for variable in certificates.VARIABLES] + [("REQUESTS_CA_BUNDLE", "folder")],
)
def test_one_variable_is_enough(secured, authority, monkeypatch, local, variable, kind):
    monkeypatch.setenv(variable, str(authority / kind))
    with terrascope_env() as env:
        env.refresh()
        with rasterio.open(secured) as src:
            assert_same_pixels(src, local, some_windows(1))
    monkeypatch.setenv(certificates.GDAL_VARIABLE, certifi.where())
    with pytest.raises(rasterio.RasterioIOError, match="certificate"):  # the trust has ended
        rasterio.open(secured)


@pytest.mark.parametrize("scope", ["origins", "env"])
def test_the_arguments_win(secured, authority, monkeypatch, local, tmp_path, scope):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "ca.pem"))
    with terrascope_env(scope=scope, GDAL_CURL_CA_BUNDLE=certifi.where()) as env:
        with pytest.raises(rasterio.RasterioIOError, match="certificate") as caught:
            env.open(secured)
        assert "Next: add the certificate" in caught.value.__notes__[0]
    with terrascope_env(scope=scope) as env, env.open(secured) as src:
        assert_same_pixels(src, local, some_windows(1))


def test_each_asks_its_own_variable_first(secured, authority, monkeypatch, local):
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "ca.pem"))
    monkeypatch.setenv("GDAL_CURL_CA_BUNDLE", str(authority / "ca.pem"))
    with terrascope_env(), rasterio.open(secured) as src:
        assert_same_pixels(src, local, some_windows(1))


def test_an_enclosing_env_holds(secured, authority, monkeypatch, local):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    with (
        rasterio.Env(GDAL_CURL_CA_BUNDLE=str(authority / "ca.pem")),
        terrascope_env(),
        rasterio.open(secured) as src,
    ):
        assert_same_pixels(src, local, some_windows(1))


def test_an_unknown_authority_is_named_with_what_to_do(secured, sandbox):
    with pytest.raises(TokenEndpointError) as caught, terrascope_env():
        pass
    message = str(caught.value)
    assert "not signed by an authority known here" in message
    assert "SSL_CERT_FILE" in message.partition("Next: ")[2]
    assert sandbox.requests("sso") == []


def test_a_certificate_of_another_host(secured, sandbox, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    for environ in in_front(authority / "other.pem", sandbox):
        monkeypatch.setenv("TERRASCOPE_TOKEN_URL", environ["TERRASCOPE_TOKEN_URL"])
        with pytest.raises(TokenEndpointError, match=r"not accepted.*127\.0\.0\.1.*Next: check the host"):
            terrascope_env().__enter__()


def test_a_port_that_speaks_no_tls(secured, sandbox, monkeypatch):
    monkeypatch.setenv("TERRASCOPE_TOKEN_URL", sandbox.token_url.replace("http:", "https:"))
    with pytest.raises(TokenEndpointError, match=r"does not speak TLS.*Next: check the URL"):
        terrascope_env().__enter__()


@pytest.mark.parametrize("text", [None, "not a certificate"])
def test_a_variable_that_names_no_certificates(secured, sandbox, monkeypatch, tmp_path, text):
    file = tmp_path / "bundle.pem"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(TokenEndpointError) as caught, terrascope_env():
        pass
    assert f"SSL_CERT_FILE names {file}, which" in str(caught.value)
    assert "Next: correct SSL_CERT_FILE, or unset it." in str(caught.value)
    assert sandbox.password not in repr(caught.getrepr(showlocals=True))
    assert sandbox.requests("sso") == []


@pytest.mark.parametrize(
    ("bundle", "advice"),
    [
        (None, "if the network has a certificate authority of its own"),
        ("missing.pem", "correct GDAL_CURL_CA_BUNDLE, or unset it"),
        ("empty.pem", "correct GDAL_CURL_CA_BUNDLE, or unset it"),
    ],
)
def test_what_gdal_reports_of_certificates(secured, authority, monkeypatch, bundle, advice):
    """The texts that gdal/messages.py reads, as this GDAL writes them; the next test has one more."""
    (authority / "empty.pem").write_text("not a certificate")
    if bundle is not None:
        monkeypatch.setenv(certificates.GDAL_VARIABLE, str(authority / bundle))
    with pytest.raises(rasterio.RasterioIOError) as raised:
        rasterio.open(secured)
    assert messages.certificate_advice(raised.value).startswith(advice)


def test_what_gdal_reports_of_another_hosts_certificate(secured, sandbox, authority, monkeypatch):
    monkeypatch.setenv(certificates.GDAL_VARIABLE, str(authority / "ca.pem"))
    for environ in in_front(authority / "other.pem", sandbox):
        with pytest.raises(rasterio.RasterioIOError) as raised:
            rasterio.open(sandbox.url().replace(sandbox.origin, environ["TERRASCOPE_ORIGINS"]))
        assert messages.certificate_advice(raised.value) == certificates.ADVICE_ON_THE_REST


def tsread(*arguments, code=0, without=()):
    environ = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run(
        [TSREAD, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def doctor(url, code=0):
    report = json.loads(tsread("doctor", url, "--json", code=code).stdout)
    return {step["step"]: (step["state"], step["what"], step["next"]) for step in report["steps"]}


@pytest.mark.parametrize("variable", certificates.VARIABLES)
def test_the_catalogue_trusts_the_same(secured, authority, monkeypatch, variable):
    with pytest.raises(CatalogueError, match=r"not signed by an authority known here.*SSL_CERT_FILE"):
        stac.open_catalog()
    monkeypatch.setenv(variable, str(authority / "ca.pem"))
    assert stac.open_catalog().id
    monkeypatch.setenv(variable, "/no/such/file.pem")
    with pytest.raises(CatalogueError, match=r"file.pem, which cannot be read.*correct"):
        stac.open_catalog()


class TestDoctor:
    """The line on the trusted authorities, and what is wrong with them."""

    def test_nothing_is_set(self, secured):
        found = doctor(secured, code=1)
        assert found["certificates"][:2] == ("ok", "the usual authorities are trusted (certifi's)")
        for step in ("login host", "data host"):
            state, what, advice = found[step]
            assert state == "failed"
            assert "127.0.0.1" in what
            assert "not signed by an authority known here" in what
            assert "set SSL_CERT_FILE" in advice

    def test_one_is_set(self, secured, authority, monkeypatch):
        monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
        found = doctor(secured)
        assert {state for state, _, _ in found.values()} == {"ok"}
        assert "(SSL_CERT_FILE)" in found["certificates"][1]

    def test_gdal_has_another(self, secured, authority, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "ca.pem"))
        monkeypatch.setenv("CURL_CA_BUNDLE", certifi.where())
        found = doctor(secured, code=1)
        assert "for the login (REQUESTS_CA_BUNDLE)" in found["certificates"][1]
        assert found["login host"][0] == "ok"
        assert "which CURL_CA_BUNDLE names" in found["data host"][1]
        assert "CURL_CA_BUNDLE" in found["data host"][2]

    def test_a_missing_file(self, secured, monkeypatch, tmp_path):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
        found = doctor(secured, code=1)
        for step, state in (("certificates", "warning"), ("login host", "failed"), ("data host", "failed")):
            assert found[step][0] == state
            assert "gone.pem, which cannot be read" in found[step][1]
            assert "REQUESTS_CA_BUNDLE" in found[step][2]


def test_tsread_reports_it_too(secured, authority, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority / "ca.pem"))
    monkeypatch.setenv("CURL_CA_BUNDLE", certifi.where())
    (line,) = tsread("info", secured, code=1).stderr.splitlines()
    assert "certificate of 127.0.0.1" in line
    assert line.endswith("or let CURL_CA_BUNDLE name another file.")


def test_gdals_own_variable_takes_no_folder(tmp_path):
    assert "folder" in certificates.Bundle(str(tmp_path), certificates.GDAL_VARIABLE).fault()
    assert certificates.Bundle(str(tmp_path), "REQUESTS_CA_BUNDLE").fault() is None


@pytest.mark.parametrize("options", [(), ("--all-hosts",)])
def test_a_gdal_program_trusts_it_too(secured, authority, monkeypatch, options):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    done = tsread("exec", *options, "--", RIO, "info", "--shape", secured)
    assert done.stdout.split() == ["36000", "36000"]


def test_what_rasterio_sets_is_not_a_users_setting():
    assert certificates.for_gdal({"GDAL_CURL_CA_BUNDLE": certifi.where()}) is None
    assert certificates.for_requests({"GDAL_CURL_CA_BUNDLE": certifi.where()}) is None
    assert certificates.for_gdal({"SSL_CERT_FILE": ""}) is None
