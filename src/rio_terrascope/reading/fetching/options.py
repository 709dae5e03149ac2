"""The network options of GDAL that the fetching honours.

GDAL_HTTP_CONNECTTIMEOUT, GDAL_HTTP_TIMEOUT, GDAL_HTTP_LOW_SPEED_TIME, GDAL_HTTP_LOW_SPEED_LIMIT,
GDAL_HTTP_MAX_RETRY and GDAL_HTTP_RETRY_DELAY; GDAL_HTTP_PROXY, GDAL_HTTPS_PROXY, GDAL_HTTP_PROXYUSERPWD and
the variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY; the variables of `certificates` and
GDAL_HTTP_UNSAFESSL; GDAL_HTTP_USERAGENT and GDAL_HTTP_HEADERS; and for URLs that no env covers
GDAL_HTTP_HEADER_FILE and GDAL_HTTP_USERPWD. They are read as GDAL reads them: path-specific options, then the
thread's `rasterio.Env`, the process, the environment.

Without effect: GDAL_HTTP_AUTH, GDAL_HTTP_BEARER, GDAL_HTTP_NETRC, GDAL_HTTP_NETRC_FILE, GDAL_HTTP_COOKIE,
GDAL_HTTP_COOKIEFILE, GDAL_HTTP_COOKIEJAR, GDAL_HTTP_REFERER, GDAL_PROXY_AUTH, GDAL_HTTP_SSLCERT and the rest
of client certificates, GDAL_HTTP_SSL_VERIFYSTATUS, GDAL_HTTP_USE_CAPI_STORE, GDAL_HTTP_RETRY_CODES,
GDAL_HTTP_VERSION, GDAL_HTTP_MULTIPLEX, GDAL_HTTP_MULTIRANGE, GDAL_HTTP_MERGE_CONSECUTIVE_RANGES,
GDAL_HTTP_TCP_KEEPALIVE, GDAL_HTTP_MAX_CACHED_CONNECTIONS, GDAL_HTTP_MAX_TOTAL_CONNECTIONS and all that begin
with CPL_VSIL_CURL or VSI_CACHE.
"""

import base64
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import rasterio.env
import requests.utils

from rio_terrascope import certificates
from rio_terrascope.certificates import Bundle
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.options import (
    HEADER_FILE,
    HEADERS,
    PATH_OPTIONS,
    PROXY,
    UNSAFE_TLS,
    as_text,
    header_lines,
    is_authorization,
    vsi_path,
)
from rio_terrascope.secret import Secret, SecretText
from rio_terrascope.settings import stays_here

_OFF = ("NO", "FALSE", "OFF", "0")


@dataclass(frozen=True)
class Options:
    """The options for one URL.

    Attributes
    ----------
    retries : int
        How often to ask again after a passing trouble.
    delay : float
        Seconds before the first time; it doubles each time.
    connect_seconds : float or None
        To wait for a connection; None for no limit, as in all that follow.
    stall_seconds : float or None
        To wait while fewer than `slow` bytes a second come.
    slow : float
        Bytes a second.
    whole_seconds : float or None
        For a whole answer.
    bundle : Bundle or None
        The certificates to trust; None for certifi's.
    checks_certificate : bool
    proxy : Secret or None
        Its URL.
    headers : mapping of str to str
        For the URL's own origin only.
    user_agent : str or None
    """

    retries: int
    delay: float
    connect_seconds: float | None
    stall_seconds: float | None
    slow: float
    whole_seconds: float | None
    bundle: Bundle | None
    checks_certificate: bool
    proxy: Secret | None
    user_agent: str | None
    headers: Mapping[str, SecretText] = field(default_factory=dict, repr=False, hash=False)

    def __reduce__(self) -> str:
        raise TypeError("options cannot be pickled: they may hold credentials")

    @property
    def of_connection(self) -> tuple[object, ...]:
        """What all requests on one connection have in common."""
        return (
            self.connect_seconds,
            self.stall_seconds,
            self.slow,
            self.whole_seconds,
            self.bundle,
            self.checks_certificate,
            self.proxy,
        )


def options_for(url: str, *, covered: bool, secret_headers: bool = False) -> Options:
    """Read the options for a URL in the caller's thread.

    Parameters
    ----------
    url : str
    covered : bool
        Whether an env covers it, so that it gets the token. No other credentials are sent then.
    secret_headers : bool
        Whether GDAL_HTTP_HEADERS holds the token of an env that does not cover the URL.
    """
    path = vsi_path(url)
    # a GDAL that is too old for path-specific options
    own = None if libgdal.why_not_scoped() is None else _without_libgdal()

    def text(key: str) -> str | None:
        return libgdal.get_path_option(path, key) if own is None else own(key)

    def number(key: str) -> float:
        try:
            return float(text(key) or PATH_OPTIONS.get(key, "0"))
        except ValueError:
            return float(PATH_OPTIONS.get(key, "0"))

    lines = header_lines(text(HEADERS) or "")
    if not covered and (file := text(HEADER_FILE)):
        lines += _lines_of(file)
    if covered or secret_headers:
        lines = [line for line in lines if not is_authorization(line)]
    headers = {
        name.strip(): SecretText(value.strip())
        for name, colon, value in (line.partition(":") for line in lines)
        if colon and value.strip()
    }
    if not covered and (user := text("GDAL_HTTP_USERPWD")) and "Authorization" not in headers:
        headers["Authorization"] = SecretText("Basic " + base64.b64encode(user.encode()).decode())
    return Options(
        retries=max(0, int(number("GDAL_HTTP_MAX_RETRY"))),
        delay=number("GDAL_HTTP_RETRY_DELAY"),
        connect_seconds=number("GDAL_HTTP_CONNECTTIMEOUT") or None,
        stall_seconds=number("GDAL_HTTP_LOW_SPEED_TIME") or None,
        slow=number("GDAL_HTTP_LOW_SPEED_LIMIT"),
        whole_seconds=number("GDAL_HTTP_TIMEOUT") or None,
        bundle=certificates.for_gdal({name: text(name) or "" for name in certificates.VARIABLES}),
        # with a token, certificates are always checked, as `env.open` does
        checks_certificate=covered or (text(UNSAFE_TLS) or "NO").upper() in _OFF,
        proxy=_proxy_for(url, text("GDAL_HTTPS_PROXY"), text(PROXY), text("GDAL_HTTP_PROXYUSERPWD")),
        user_agent=text("GDAL_HTTP_USERAGENT"),
        headers=headers,
    )


def _proxy_for(url: str, for_https: str | None, own: str | None, user: str | None) -> Secret | None:
    """Return the proxy for a URL. An empty option of GDAL's turns the variables off, as in curl."""
    if stays_here(url):
        return None
    own = for_https if for_https and url.startswith("https:") else own
    if own is None:
        proxies = requests.utils.get_environ_proxies(url)
        own = requests.utils.select_proxy(url, proxies)
    if not own:
        return None
    scheme, separator, rest = own.partition("://")
    if not separator:
        scheme, rest = "http", own
    if user and "@" not in rest:
        rest = f"{user}@{rest}"
    return Secret(f"{scheme}://{rest}")


def _without_libgdal() -> Callable[[str], str | None]:
    env = rasterio.env.getenv() if rasterio.env.hasenv() else {}
    return lambda key: as_text(env[key]) if key in env else os.environ.get(key)


def _lines_of(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []  # GDAL goes on without it too
