"""One attempt to open a URL of the origins: look where it leads, then let GDAL open that."""

from typing import Any

from rasterio.errors import RasterioIOError

from rio_terrascope.auth.oidc import Token
from rio_terrascope.gdal import cache, libgdal, messages
from rio_terrascope.gdal.opening import open_whole
from rio_terrascope.gdal.options import PATH_OPTIONS, vsi_path
from rio_terrascope.http import NoAnswerError
from rio_terrascope.opening import look
from rio_terrascope.opening.look import Look
from rio_terrascope.opening.refusals import Refusal, find_refusal, refused_elsewhere
from rio_terrascope.settings import Settings


def try_to_open(
    url: str, token: Token, settings: Settings | None, *args: Any, **kwargs: Any
) -> tuple[Any, Refusal | None]:
    """Open a URL. If it redirects to another host, open what it leads to, without the token.

    Parameters
    ----------
    url : str
    token : Token
        The one that GDAL has for this URL.
    settings : Settings or None
        The origins. None if GDAL gives every host the token: then it follows redirects itself.
    *args, **kwargs
        As for `rasterio.open`.

    Returns
    -------
    dataset : rasterio.DatasetReader or None
        Its name is `url`.
    refusal : Refusal or None
        How the server has refused it, if it has.

    Raises
    ------
    rasterio.errors.RasterioIOError
        For anything else: 404, a server in trouble, a file that is not a raster.
    """
    asked = url
    try:
        if libgdal.why_not_scoped() is None:
            seen = _look(url, token)
            if settings is not None:
                if not settings.covers(seen.final_url):
                    return _open_elsewhere(seen, token, url, *args, **kwargs)
                if seen.status >= 400 and seen.status != 416:  # an empty file has no first bytes
                    raise messages.bad_status(seen.status)
                asked = seen.final_url
        return _open(asked, url, *args, **kwargs), None
    except RasterioIOError as error:
        refusal = find_refusal(error, asked, token)
        if refusal is None:
            raise
        return None, refusal


def _open_elsewhere(
    seen: Look, token: Token, url: str, *args: Any, **kwargs: Any
) -> tuple[Any, Refusal | None]:
    """Open what a URL of the origins redirects to. GDAL asks it without the token."""
    if (refusal := refused_elsewhere(seen)) is not None:
        return None, refusal
    try:
        return _open(seen.final_url, url, *args, **kwargs), None
    except RasterioIOError as error:
        if messages.http_status(error) not in (400, 401, 403, 405, 501):
            raise
    # The host refuses HEAD, with which GDAL asks for the size, or a signature has expired. So look again,
    # and do without HEAD, although GDAL then begins to get the whole file.
    look.forget(url)
    seen = _look(url, token)
    if (refusal := refused_elsewhere(seen)) is not None:
        return None, refusal
    with libgdal.for_this_thread("CPL_VSIL_CURL_USE_HEAD", "NO"):
        return _open(seen.final_url, url, *args, **kwargs), None


def _look(url: str, token: Token) -> Look:
    """Look at a URL, with the patience that GDAL has there."""

    def number(key: str) -> float:
        value = libgdal.get_path_option(vsi_path(url), key) or ""
        try:
            return float(value)
        except ValueError:
            return float(PATH_OPTIONS[key])

    try:
        return look.look(
            url,
            token,
            retries=int(number("GDAL_HTTP_MAX_RETRY")),
            delay=number("GDAL_HTTP_RETRY_DELAY"),
            seconds=number("GDAL_HTTP_CONNECTTIMEOUT") + number("GDAL_HTTP_LOW_SPEED_TIME"),
        )
    except NoAnswerError as error:
        raise messages.no_answer(url, error) from None


def _open(url: str, name: str, *args: Any, **kwargs: Any) -> Any:
    try:
        return open_whole(url, *args, name=name, **kwargs)
    except RasterioIOError as error:
        cache.forget(url)  # or the next open would fail from the cache
        messages.add_certificate_advice(error)
        raise
