"""The texts that messages.py reads, as this GDAL writes them. A new GDAL shows here what has changed.

Texts about certificates: tests/test_certificates.py.
"""

import socket

import pytest
import rasterio
from rasterio.errors import RasterioIOError

from rio_terrascope import terrascope_env
from rio_terrascope.gdal import messages


def error_of(url):
    with pytest.raises(RasterioIOError) as raised, rasterio.open(url) as dataset:
        dataset.read(1, window=((0, 10), (0, 10)))
    return raised.value


def what_is_told(error):
    """The answers of all functions that say yes or no."""
    return {
        name
        for name in ("is_not_a_raster", "is_about_the_header", "is_failed_read", "network_trouble")
        if getattr(messages, name)(error)
    }


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_status(sandbox, status):
    sandbox.fail(status, times=None)
    with terrascope_env(GDAL_HTTP_MAX_RETRY=0):
        error = error_of(f"{sandbox.url()}?signature=secret")
    assert messages.http_status(error) == status
    assert what_is_told(error) == set()
    assert messages.certificate_advice(error) is None


def test_a_status_is_not_found_in_a_url():
    assert messages.http_status(RasterioIOError("http://127.0.0.1:40412/response/404.tif: it failed")) is None


def test_a_web_page_is_not_a_raster(sandbox):
    sandbox.fail(200, times=None, body="<html>Log in</html>", content_type="text/html")
    error = error_of(sandbox.url())
    assert what_is_told(error) == {"is_not_a_raster", "is_about_the_header"}
    assert messages.http_status(error) is None
    assert messages.url_in(error) == sandbox.url()


def test_a_local_file_that_is_not_a_raster(tmp_path):
    file = tmp_path / "it's.txt"
    file.write_text("text")
    plain = tmp_path / "plain.txt"
    plain.write_text("text")
    assert messages.is_not_a_raster(error_of(file))
    assert messages.quoted_name(error_of(plain)) == str(plain)


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (0, "not recognized as being in a supported file format"),
        (100, "Failed to read directory"),
        (5000, "IO error during reading of"),
    ],
)
def test_a_header_that_breaks_off(sandbox, after, text):
    sandbox.truncate(after=after, times=None, method="GET")
    with terrascope_env():
        error = error_of(sandbox.url())
    assert text in str(error)
    assert messages.is_about_the_header(error)
    assert not messages.is_failed_read(error)


def test_a_missing_local_file(tmp_path):
    error = error_of(tmp_path / "missing.tif")
    assert messages.is_missing_file(error)
    assert not messages.is_not_a_raster(error)
    assert messages.url_in(error) is None


def test_a_read_that_fails(sandbox):
    with terrascope_env(GDAL_HTTP_MAX_RETRY=0), rasterio.open(sandbox.url()) as dataset:
        sandbox.reset(times=None)
        with pytest.raises(RasterioIOError) as raised:
            dataset.read(1, window=((20000, 20010), (20000, 20010)))
    assert what_is_told(raised.value) == {"is_failed_read"}


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/x.tif", "https://no-such-host.invalid/x.tif"])
def test_no_connection(url):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = url.format(port=unused.getsockname()[1])
    with rasterio.Env(GDAL_HTTP_MAX_RETRY=0, GDAL_HTTP_PROXY=""):
        error = error_of(url)
    assert what_is_told(error) == {"network_trouble"}
    assert messages.http_status(error) is None
    assert messages.certificate_advice(error) is None


def test_the_query_of_a_url_stays_out():
    error = RasterioIOError("'/vsicurl/https://a.example/b.tif?X-Amz-Signature=secret' it failed")
    assert messages.url_in(error) == "https://a.example/b.tif"
