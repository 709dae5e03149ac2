"""How a server refuses a URL to a user who is logged in."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import requests
from rasterio.errors import RasterioIOError

from rio_terrascope import certificates
from rio_terrascope.auth.oidc import Token
from rio_terrascope.gdal.opening import NO_RASTER
from rio_terrascope.settings import stays_here


@dataclass(frozen=True)
class Refusal:
    """How the server refused a URL."""

    reason: str
    lapsed: bool  # a new token may help
    token: Token = field(repr=False)  # the one that was refused


def refusal_of(error: RasterioIOError, url: str, token: Token) -> Refusal | None:
    """Tell from an error of `rasterio.open` whether the server refused the user, and how."""
    # to the letter: GDAL's text holds the URL too, and a port may be 40123
    status = re.search(r"response code: (\d+)", str(error))
    if status and status[1] == "401":
        return Refusal("it answered 401 (Unauthorized)", True, token)
    if status and status[1] == "403":
        return Refusal("it answered 403 (Forbidden)", False, token)
    if NO_RASTER in str(error):  # GDAL does not tell what it took for a file, so look at it
        with _first_bytes(url, token) as response:
            if response is None:
                return None
            if response.status_code == 401:  # the token died between GDAL's first two requests
                return Refusal("it answered 401 (Unauthorized)", True, token)
            if response.is_redirect or response.headers.get("Content-Type", "").startswith("text/html"):
                return Refusal("it answered with a login page", True, token)
    return None


def servers_reason(url: str, token: Token) -> str:
    """Ask once more, for what GDAL does not tell: the server's own words (RFC 6750, section 3)."""
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

    def bearer(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token.access_token}"
        return request

    bundle = certificates.for_gdal()
    with requests.Session() as session:
        session.trust_env = not stays_here(url.removeprefix("/vsicurl/"))
        try:
            response = session.get(
                url.removeprefix("/vsicurl/"),
                headers={"Range": "bytes=0-255"},
                auth=bearer,
                verify=bundle.path if bundle else True,
                allow_redirects=False,
                stream=True,
                timeout=(10, 30),
            )
        except OSError:  # all of requests' own, and a file of certificates that is not there
            yield None
            return
        with response:
            yield response
