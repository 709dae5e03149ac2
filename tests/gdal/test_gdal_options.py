"""How GDAL treats the options that the package sets."""

import ctypes
import os
import threading

import pytest
import rasterio

from helpers import assert_same_pixels, some_windows
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.header import Header
from rio_terrascope.gdal.options import HEADER_FILE, AppliedOptions, as_text, without_authorization
from rio_terrascope.registry import vsi_prefixes
from rio_terrascope.settings import Settings


@pytest.fixture
def options():
    applied = AppliedOptions()
    yield applied
    applied.apply({})


@pytest.fixture
def public(sandbox, tiles):
    """A file that needs no token, at a URL that GDAL has never seen, and its path prefix."""
    url = sandbox.add_file(tiles[0], f"/download/open/{os.urandom(4).hex()}.tif")
    return url, f"/vsicurl/{sandbox.origin}/"


def test_this_gdal_can_be_scoped():
    assert libgdal.why_not_scoped() is None


@pytest.mark.parametrize(
    ("version", "reason"),
    [("3.6.4", "older than 3.7"), ("2.4.0", "older"), ("3.10.3", None), ("4.0.0", None)],
)
def test_which_gdal_can_be_scoped(monkeypatch, version, reason):
    monkeypatch.setattr(rasterio, "__gdal_version__", version)
    answer = libgdal.why_not_scoped()
    assert answer is None if reason is None else reason in answer


def test_a_libgdal_that_hides_its_functions(monkeypatch):
    libgdal.load.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda path: object())
    assert "does not let" in libgdal.why_not_scoped()
    libgdal.load.cache_clear()


class TestAppliedOptions:
    """Options are set, changed and put back."""

    PREFIX = "/vsicurl/https://a.example/"

    def test_per_path(self, options):
        wanted = {(self.PREFIX, "GDAL_HTTP_MAX_RETRY"): "4"}
        options.apply(wanted)
        options.apply(wanted)
        assert libgdal.get_path_option(self.PREFIX + "x.tif", "GDAL_HTTP_MAX_RETRY") == "4"
        for elsewhere in ("/vsicurl/https://a.example.evil/x.tif", "/vsicurl/https://a.exampl/", "/vsicurl/"):
            assert libgdal.get_path_option(elsewhere, "GDAL_HTTP_MAX_RETRY") is None
        options.apply({})
        assert libgdal.get_path_option(self.PREFIX, "GDAL_HTTP_MAX_RETRY") is None

    def test_for_the_process(self, options):
        before = AppliedOptions()
        before.apply({(None, "GDAL_INGESTED_BYTES_AT_OPEN"): "1"})
        options.apply({(None, "GDAL_INGESTED_BYTES_AT_OPEN"): "2"})
        assert options.configured("GDAL_INGESTED_BYTES_AT_OPEN") == "1"
        seen = []
        thread = threading.Thread(
            target=lambda: seen.append(libgdal.get_config_option("GDAL_INGESTED_BYTES_AT_OPEN"))
        )
        thread.start()
        thread.join()
        assert seen == ["2"]
        options.apply({(None, "GDAL_INGESTED_BYTES_AT_OPEN"): "3"})
        assert libgdal.get_config_option("GDAL_INGESTED_BYTES_AT_OPEN") == "3"
        options.apply({})
        assert libgdal.get_config_option("GDAL_INGESTED_BYTES_AT_OPEN") == "1"
        before.apply({})
        assert libgdal.get_config_option("GDAL_INGESTED_BYTES_AT_OPEN") is None

    def test_an_environment_variable_is_not_put_back_as_a_setting(self, options, monkeypatch):
        monkeypatch.setenv("GDAL_INGESTED_BYTES_AT_OPEN", "7")
        options.apply({(None, "GDAL_INGESTED_BYTES_AT_OPEN"): "8"})
        options.apply({})
        monkeypatch.setenv("GDAL_INGESTED_BYTES_AT_OPEN", "9")
        assert libgdal.get_config_option("GDAL_INGESTED_BYTES_AT_OPEN") == "9"


class TestWhatGdalHonours:
    """Which options GDAL accepts per path, and which only for the process."""

    def test_readdir_per_path(self, sandbox, public, options, local):
        url, prefix = public
        options.apply({(prefix, "GDAL_DISABLE_READDIR_ON_OPEN"): "EMPTY_DIR"})
        with rasterio.open(url) as src:
            assert_same_pixels(src, local, some_windows(1))
        assert {request.path for request in sandbox.requests("data")} == {url.removeprefix(sandbox.origin)}

    def test_retries_per_path(self, sandbox, public, options):
        url, prefix = public
        options.apply({(prefix, "GDAL_HTTP_MAX_RETRY"): "2", (prefix, "GDAL_HTTP_RETRY_DELAY"): "0.01"})
        sandbox.fail(503, times=2)
        rasterio.open(url).close()

    def test_no_retries_by_default(self, sandbox, public):
        sandbox.fail(503, times=1)
        with pytest.raises(rasterio.RasterioIOError, match="503"):
            rasterio.open(public[0])

    @pytest.mark.parametrize(("where", "first"), [("path", "bytes=0-16383"), ("process", "bytes=0-32767")])
    def test_ingested_bytes_for_the_process_only(self, sandbox, public, options, where, first):
        url, prefix = public
        options.apply({(prefix if where == "path" else None, "GDAL_INGESTED_BYTES_AT_OPEN"): "32768"})
        rasterio.open(url).close()
        assert first in [request.range for request in sandbox.requests("data")]

    def test_the_header_is_read_at_each_request(self, sandbox, options):
        from rio_terrascope import TokenSource

        header = Header()
        tokens = TokenSource()
        header.write(tokens.get().access_token)
        options.apply({(f"/vsicurl/{sandbox.origin}/", HEADER_FILE): header.path})
        with rasterio.open(sandbox.url()) as src:
            windows = some_windows(1000)
            src.read(1, window=next(windows))
            sandbox.revoke_tokens()
            header.write(tokens.refresh().access_token)
            sandbox.clear()
            for window in windows:
                src.read(1, window=window)
                if sandbox.requests("data"):
                    break
        assert {request.authorization for request in sandbox.requests("data")} == {"valid"}
        header.remove()


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ("", ""),
        ("Authorization: Bearer x", ""),
        ("X-A: 1,authorization: Bearer x,X-B: 2", "X-A: 1,X-B: 2"),
        ("X-A: 1, Authorization: Basic x", "X-A: 1"),
        ("X-Authorization: 1", "X-Authorization: 1"),
    ],
)
def test_headers_without_authorization(headers, kept):
    assert without_authorization(headers) == kept


@pytest.mark.parametrize(("value", "text"), [(True, "ON"), (False, "OFF"), (3, "3"), ("YES", "YES")])
def test_option_values_as_rasterio_writes_them(value, text):
    assert as_text(value) == text


def test_prefixes_are_those_of_the_urls_that_settings_cover():
    settings = Settings()
    for prefix in vsi_prefixes(settings):
        assert settings.covers(prefix + "download/x.tif")
