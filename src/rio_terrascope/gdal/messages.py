"""What the texts of GDAL's and rasterio's errors mean. The only module that reads them.

GDAL has error numbers, but no numbers for what matters here: the status of an answer, a broken
connection, a file that is not a raster. tests/gdal/test_messages.py and tests/test_certificates.py
provoke each text, so that a new version of GDAL shows what has changed.
"""

import errno
import os
import re

from rasterio.errors import RasterioIOError

from rio_terrascope import certificates
from rio_terrascope.errors import with_next_step
from rio_terrascope.http import NoAnswerError
from rio_terrascope.settings import shown

_NOT_A_RASTER = "not recognized as being in a supported file format"
_BROKEN_HEADER = (_NOT_A_RASTER, "Failed to read directory", "IO error during reading of")
_URL = re.compile(r"(?:/vsicurl/)?(https?://[^\s'\"?]+)")


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status of the answer that made an open fail. A failed read does not tell it."""
    # the whole phrase, since the text may hold the URL too, and its port may be 40412
    status = re.search(r"response code: (\d+)", str(error))
    return int(status[1]) if status else None


def is_not_a_raster(error: BaseException | str) -> bool:
    """Tell whether GDAL got bytes that it cannot read as a raster, for example a web page."""
    return _NOT_A_RASTER in str(error)


def is_missing_file(error: BaseException) -> bool:
    """Tell whether a local file does not exist."""
    return str(error).rstrip(".").endswith(os.strerror(errno.ENOENT))


def is_about_the_header(error: BaseException | str) -> bool:
    """Tell whether GDAL lacks bytes of the header, as when a connection breaks."""
    return any(text in str(error) for text in _BROKEN_HEADER)


def is_failed_read(error: BaseException) -> bool:
    """Tell whether pixels could not be read. The innermost cause says why."""
    return "read failed" in str(error).lower()


def network_trouble(error: BaseException) -> str | None:
    """Return why there was no answer, without a final period: curl's own words, or those of `no_answer`."""
    said = re.search(r"(?:CURL error|no answer): (.*)", str(error))
    return said[1].rstrip(".") if said else None


def bad_status(status: int, url: str = "") -> RasterioIOError:
    """Return the error that rasterio raises for a status, for a URL that GDAL is not given."""
    return RasterioIOError(f"{shown(url)}: HTTP response code: {status}".removeprefix(": "))


def no_answer(url: str, error: NoAnswerError) -> RasterioIOError:
    """Return the error for a server that did not answer a client of ours, with advice on certificates."""
    reason = str(error).replace("no answer in time", "it took too long")
    refused = RasterioIOError(f"{shown(url)}: no answer: {reason}")
    if error.advice:
        refused.add_note(with_next_step("the host's certificate was not accepted", error.advice))
    return refused


def url_in(error: BaseException) -> str | None:
    """Return the URL that an error names, without its query, which may hold a signature."""
    found = _URL.search(str(error))
    return found[1].rstrip(":.,") if found else None


def quoted_name(error: BaseException) -> str | None:
    """Return the name that GDAL quotes when a file is not a raster."""
    found = re.search(rf"'([^']*)' {_NOT_A_RASTER}", str(error))
    return found[1] if found else None


def certificate_advice(error: BaseException) -> str | None:
    """Return the next step if a host's certificate was not accepted, else None."""
    message = str(error)
    if not re.search(r"(CURL error|no answer):.*(certificate|trust anchors|\b[A-Z_]+ names )", message):
        return None
    if re.search(r"certificate file|trust anchors|\b[A-Z_]+ names .*, which", message):  # not loaded
        bundle = certificates.for_gdal()
        return f"correct {bundle.variable if bundle else certificates.GDAL_VARIABLE}, or unset it"
    if re.search(r"issuer|self.signed|an authority known", message):
        return certificates.advice_on_authority(certificates.for_gdal())
    return certificates.ADVICE_ON_THE_REST


def add_certificate_advice(error: RasterioIOError) -> None:
    """Add the next step as a note, since the text of rasterio's error is not ours to change."""
    if advice := certificate_advice(error):
        error.add_note(with_next_step("the host's certificate was not accepted", advice))
