"""How a server refuses a URL to a user who is logged in."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
from rasterio.errors import RasterioIOError

from rio_terrascope import certificates
from rio_terrascope.auth.oidc import Token
from rio_terrascope.gdal import messages
from rio_terrascope.http import new_session
from rio_terrascope.look import Look

TIMEOUT = (10, 30)  # seconds to connect, seconds between two bytes


@dataclass(frozen=True)
class Refusal:
    """The answer of a server that refuses a URL.

    Attributes
    ----------
    answer : str
        In words.
    status : int
        The HTTP status.
    lapsed : bool
        True if the login may have lapsed, so that a new token may help.
    """

    answer: str
    status: int
    lapsed: bool


_LOGIN_PAGE = "it answered with a login page"
_UNAUTHORIZED = Refusal("it answered 401 (Unauthorized)", 401, lapsed=True)
_FORBIDDEN = Refusal("it answered 403 (Forbidden)", 403, lapsed=False)


def find_refusal(error: RasterioIOError, url: str, token: Token) -> Refusal | None:
    """Tell from an error of `rasterio.open` whether the server refused the user, and how.

    Parameters
    ----------
    error : rasterio.errors.RasterioIOError
    url : str
    token : Token
        The one that GDAL has sent.

    Returns
    -------
    Refusal or None
        None if it was not a refusal.
    """
    status = messages.http_status(error)
    if status == 401:
        return _UNAUTHORIZED
    if status == 403:
        return _FORBIDDEN
    if messages.is_not_a_raster(error):  # GDAL does not say what it got instead, so ask for it
        with _first_bytes(url, token) as response:
            if response is None:
                return None
            if response.status_code == 401:  # the token expired between GDAL's first two requests
                return _UNAUTHORIZED
            if response.is_redirect or response.headers.get("Content-Type", "").startswith("text/html"):
                return Refusal(_LOGIN_PAGE, response.status_code, lapsed=True)
    return None


def refused_elsewhere(seen: Look) -> Refusal | None:
    """Tell from a look whether the host that a URL redirects to refuses it.

    Raises
    ------
    rasterio.errors.RasterioIOError
        If that host is in trouble, or does not have the file.
    """
    if seen.status in (401, 403):
        host = urlsplit(seen.final_url).netloc.rpartition("@")[2]
        return Refusal(f"it redirects to {host}, which answered {seen.status}", seen.status, lapsed=False)
    if seen.status >= 400:
        raise messages.bad_status(seen.status)
    return Refusal(_LOGIN_PAGE, seen.status, lapsed=True) if seen.is_page else None


def servers_reason(url: str, token: Token) -> str:
    """Ask once more, for the server's own words, which GDAL does not report (RFC 6750, section 3)."""
    with _first_bytes(url, token) as response:
        challenge = response.headers.get("WWW-Authenticate", "") if response is not None else ""
    said = re.search(r'error_description="([^"]*)"', challenge) or re.search(r'error="([^"]*)"', challenge)
    if said is None:
        return ""
    words = "".join(c for c in said[1].replace(token.access_token, "***") if c.isprintable())
    return f": {words[:200].strip().rstrip('.')}"


@contextlib.contextmanager
def _first_bytes(url: str, token: Token) -> Iterator[requests.Response | None]:
    """Ask a URL for its first bytes, as GDAL does, and yield the answer; None if there is none."""
    url = url.removeprefix("/vsicurl/")
    with new_session(url, certificates.for_gdal(), access_token=token.access_token) as session:
        try:
            response = session.get(url, headers={"Range": "bytes=0-255"}, stream=True, timeout=TIMEOUT)
        except OSError:  # any error of requests, or a missing file of certificates
            yield None
            return
        with response:
            yield response
