"""How a server refuses a URL to a user who is logged in."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from rasterio.errors import RasterioIOError

from rio_terrascope import certificates
from rio_terrascope.auth.oidc import Token
from rio_terrascope.errors import AccessDeniedError, with_next_step
from rio_terrascope.gdal import messages
from rio_terrascope.http import Answer, NoAnswerError, ask
from rio_terrascope.opening.look import Look
from rio_terrascope.settings import shown

TIMEOUT = 30.0  # seconds for the whole answer


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


LOGIN_PAGE = "it answered with a login page"
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

    Raises
    ------
    rasterio.errors.RasterioIOError
        If the server answers a request for one range with several parts.
    """
    status = messages.http_status(error)
    if status == 401:
        return _UNAUTHORIZED
    if status == 403:
        return _FORBIDDEN
    if messages.is_not_a_raster(error):  # GDAL does not say what it got instead, so ask for it
        answer = _ask(url, token)
        if answer is None:
            return None
        if answer.status == 401:  # the token expired between GDAL's first two requests
            return _UNAUTHORIZED
        if answer.headers.get("Content-Type", "").startswith("multipart/"):
            raise several_parts(url) from None
        if answer.is_redirect or answer.headers.get("Content-Type", "").startswith("text/html"):
            return Refusal(LOGIN_PAGE, answer.status, lapsed=True)
    return None


def refused_elsewhere(seen: Look) -> Refusal | None:
    """Tell from a look whether the host that a URL redirects to refuses it.

    Raises
    ------
    rasterio.errors.RasterioIOError
        If that host is in trouble, or does not have the file, or answers with several parts.
    """
    if seen.is_multipart:
        raise several_parts(seen.final_url)
    if seen.status in (401, 403):
        return elsewhere(seen.final_url, seen.status)
    if seen.status >= 400:
        raise messages.bad_status(seen.status)
    return Refusal(LOGIN_PAGE, seen.status, lapsed=True) if seen.is_page else None


def elsewhere(url: str, status: int) -> Refusal:
    """Describe how the host that a URL redirects to refuses it."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return Refusal(f"it redirects to {host}, which answered {status}", status, lapsed=False)


def at_origin(status: int) -> Refusal:
    """Describe how the origin itself refuses a URL: with 401 or 403."""
    return _UNAUTHORIZED if status == 401 else _FORBIDDEN


def access_denied(url: str, refusal: Refusal, reason: str = "") -> AccessDeniedError:
    """Return the error for a URL that is refused although the login is valid.

    Parameters
    ----------
    url : str
    refusal : Refusal
    reason : str
        The server's own words, as `servers_reason` and `reason_in` return them.
    """
    return AccessDeniedError(
        f"{shown(url)} was refused: {refusal.answer}{reason}, although the login is valid",
        next_step="open it in a browser where you are logged in to Terrascope, and accept its licence "
        "or ask for access there; after that, env.refresh() and try again",
        url=url,
        status=refusal.status,
    )


def several_parts(url: str) -> RasterioIOError:
    """Return the error for an answer in several parts, which a request for one range must not get."""
    return RasterioIOError(
        with_next_step(
            f"{shown(url)}: the server answers a request for one range with several parts "
            "(multipart/byteranges), which GDAL takes for the file",
            "tell the people that run the server",
        )
    )


def servers_reason(url: str, token: Token) -> str:
    """Ask once more, for the server's own words, which GDAL does not report (RFC 6750, section 3)."""
    answer = _ask(url, token)
    return "" if answer is None else reason_in(answer, token)


def reason_in(answer: Answer, token: Token) -> str:
    """Return the server's own words in an answer, unless they hold the token."""
    challenge = answer.headers.get("WWW-Authenticate", "")
    said = re.search(r'error_description="([^"]*)"', challenge) or re.search(r'error="([^"]*)"', challenge)
    if said is None or token.access_secret.is_in(said[1][:1000]):
        return ""
    words = "".join(c for c in said[1] if c.isprintable())
    return f": {words[:200].strip().rstrip('.')}"


def _ask(url: str, token: Token) -> Answer | None:
    """Ask a URL for its first bytes, as GDAL does; return the answer without a body, or None."""
    try:
        return ask(
            "GET",
            url.removeprefix("/vsicurl/"),
            certificates.for_gdal(),
            seconds=TIMEOUT,
            headers={"Range": "bytes=0-255"},
            access_token=token.access_secret,
            read=lambda answer: answer,
        )
    except NoAnswerError:
        return None
