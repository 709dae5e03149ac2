"""The options that this package sets in GDAL, and whose value wins.

GDAL looks for an option of an HTTP request in three places: path-specific options (`VSISetPathSpecificOption
<https://gdal.org/en/stable/api/cpl.html>`_: process-wide, for paths with a given beginning), then the
thread's configuration, then the process's. Path-specific options confine a token to an origin.
"""

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from urllib.parse import urlparse

from rio_terrascope import certificates
from rio_terrascope.errors import TerrascopeWarning, with_next_step
from rio_terrascope.gdal import header
from rio_terrascope.gdal.libgdal import get_config_option, get_own_path_option, get_process_option, load
from rio_terrascope.settings import Settings, stays_here, url_prefixes

HEADER_FILE = "GDAL_HTTP_HEADER_FILE"
HEADERS = "GDAL_HTTP_HEADERS"

S3_REDIRECT = "CPL_VSIL_CURL_USE_S3_REDIRECT"
# These keep the token from other hosts, so they win over the user's own values. GDAL does not honour them
# per path, so they are set for the process.
GUARDS = {
    # YES: if a redirect leads to a signed S3 URL, GDAL goes on there, with the lines of the header file
    S3_REDIRECT: "NO",
    # YES: each redirect carries the token to any host
    "CPL_VSIL_CURL_AUTHORIZATION_HEADER_ALLOWED_IF_REDIRECT": "IF_SAME_HOST",
}

# YES: GDAL sends the token to a server whose certificate it has not checked. GDAL does not honour it per
# path, and the user may need it for another host, so there is only a warning.
UNSAFE_TLS = "GDAL_HTTP_UNSAFESSL"

# YES: GDAL reads a GeoTIFF's block offsets when it reads the blocks. NO: when it opens the file.
LAZY_OFFSETS = "GTIFF_USE_DEFER_STRILE_LOADING"

# An empty value keeps requests away from the proxy that HTTP_PROXY names. GDAL honours it per path.
PROXY = "GDAL_HTTP_PROXY"

# The read options make windowed reads fast and patient. GDAL honours these per path:
PATH_OPTIONS = {
    # no sidecar requests and no directory listing: 13 requests for open + one window become 3
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # rides out 429, 502, 503, 504 and resets: waits about 0.5 + 1 + 2 s before it gives up
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    # gives up a connection that brings less than 100 bytes a second for half a minute
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "100",
}
# ... and these only for the whole process (checked in tests/gdal/test_gdal_options.py):
PROCESS_OPTIONS = {
    # the headers of a tile with its overviews in one request instead of two
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    # Two more requests to open a WorldCover tile, whose overviews have many blocks. But if GDAL cannot
    # read an offset later on, it takes the block for empty: zeros, and no error.
    LAZY_OFFSETS: "NO",
    # GDAL's defaults today, named because the reads here count on them
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
}


@dataclass(frozen=True)
class ReadOptions:
    """The read options that are chosen for one login.

    Attributes
    ----------
    per_path : dict of str to str
        For the paths of the login's origins.
    for_process : dict of str to str
        For the whole process. Options that the user has configured are not among them.
    """

    per_path: dict[str, str]
    for_process: dict[str, str]


def choose_read_options(given: Mapping[str, str], configured: Callable[[str], str | None]) -> ReadOptions:
    """Decide whose value of each read option wins.

    What the user gave for this login wins over what the user has configured, and that wins over
    the defaults of this module.

    Parameters
    ----------
    given : mapping of str to str
        Options that the user passed for this login.
    configured : callable
        Returns the value of an option as GDAL sees it without this login, or None. It may come from
        an enclosing `rasterio.Env`, a configuration file or the environment.

    Returns
    -------
    ReadOptions
    """

    def own(key: str) -> str | None:
        return given.get(key) or configured(key)

    # a user's own value is set per path too, since an option of an Env vanishes for moments
    per_path = {key: own(key) or default for key, default in PATH_OPTIONS.items()}
    if given.get(certificates.GDAL_VARIABLE):
        per_path[certificates.GDAL_VARIABLE] = given[certificates.GDAL_VARIABLE]
    elif bundle := certificates.for_gdal({name: configured(name) or "" for name in certificates.VARIABLES}):
        per_path[bundle.gdal_option] = bundle.path
    # A token in the user's headers would be sent too, and servers refuse two. Set in any case, so that the
    # headers of an inner Env do not add one.
    per_path[HEADERS] = without_authorization(own(HEADERS) or "")
    for_process = {
        key: given.get(key, default)
        for key, default in PROCESS_OPTIONS.items()
        if key in given or configured(key) is None
    }
    return ReadOptions(per_path, for_process)


def options_for_path(prefix: str, header_file: str | PathLike[str], chosen: ReadOptions) -> dict[str, str]:
    """Return all options for the paths that begin with a prefix: the token's, and the read options."""
    options = {HEADER_FILE: str(header_file)} | chosen.per_path
    if stays_here(prefix.removeprefix("/vsicurl/")):
        options[PROXY] = ""
    return options


def warn_of_risks(own: Callable[[str], str | None], *, guarded: bool, stacklevel: int = 1) -> None:
    """Warn of options of the user's own that endanger the token.

    Parameters
    ----------
    own : callable
        Returns the user's value of an option, or None.
    guarded : bool
        Whether `GUARDS` win over the user's values.
    stacklevel : int
        As for `warnings.warn`, seen from the caller.
    """
    names = [key for key in GUARDS if (value := own(key)) and value.upper() not in _AS_SAFE[GUARDS[key]]]
    risks = []
    if guarded and names:
        risks.append(
            (
                f"{' and '.join(names)} would let GDAL carry the token to other hosts. It does not count",
                "unset it",
            )
        )
    if (own(UNSAFE_TLS) or "NO").upper() not in _AS_SAFE["NO"]:
        what = (
            f"{UNSAFE_TLS} is set: GDAL does not check certificates, so whoever intercepts its connections "
            "gets the token, and can change the pixels"
        )
        risks.append(
            (what, "unset it, and let SSL_CERT_FILE name a file with the authority of the certificate")
        )
    for what, next_step in risks:
        warnings.warn(with_next_step(what, next_step), TerrascopeWarning, stacklevel=stacklevel + 1)


# what a user may have set without a warning, since it is as safe as the value of GUARDS
_AS_SAFE = {"NO": ("NO", "FALSE", "OFF", "0"), "IF_SAME_HOST": ("IF_SAME_HOST", "NO", "FALSE", "OFF", "0")}


def vsi_path(url: str) -> str:
    """Return the path by which GDAL knows an ``http(s)://`` URL that rasterio opens."""
    if url.startswith("/vsi"):
        return url
    # rasterio drops the fragment (#...) and the parameters (;...), and turns the scheme into lower case
    return f"/vsicurl/{urlparse(url)._replace(params='', fragment='').geturl()}"


def vsi_prefixes(settings: Settings) -> Iterator[str]:
    """Yield the beginnings of the GDAL paths of all files at the origins."""
    for origin in settings.origins:
        for prefix in url_prefixes(origin):
            yield vsi_path(prefix)


def without_authorization(headers: str) -> str:
    """Return a GDAL_HTTP_HEADERS value on one line, without its Authorization lines."""
    lines = header_lines(headers)
    kept = [line for line in lines if not is_authorization(line)]
    return headers if kept == lines and "\n" not in headers else _joined(kept)


def with_authorization(headers: str, access_token: str) -> str:
    """Return a GDAL_HTTP_HEADERS value with a token in place of its own Authorization lines."""
    kept = [line for line in header_lines(headers) if not is_authorization(line)]
    return _joined([*kept, f"Authorization: Bearer {access_token}"])


def header_lines(headers: str) -> list[str]:
    """Split a GDAL_HTTP_HEADERS value as GDAL does.

    At line breaks if there is a CR LF, else at commas outside of quotes.
    """
    found = re.findall(r"[^\r\n]+", headers) if "\r\n" in headers else _at_commas(headers)
    # GDAL sends a line break inside a header unchanged, so a header may hold several lines
    return [line for header in found for line in re.split(r"[\r\n]+", header)]


def is_authorization(line: str) -> bool:
    """Tell whether a header line is an Authorization line."""
    return re.split("[:;]", line)[0].strip().lower() == "authorization"


def _at_commas(headers: str) -> list[str]:
    """Split at commas outside of double quotes, and remove the quotes, as GDAL's CSLTokenizeString2 does."""
    parts = re.findall(r'((?:"(?:\\["\\]|[^"])*(?:"|$)|[^",])+)', headers)
    return [re.sub(r'"((?:\\["\\]|[^"])*)(?:"|$)', _unescaped, part) for part in parts]


def _unescaped(quoted: re.Match[str]) -> str:
    return re.sub(r'\\(["\\])', r"\1", quoted[1])


def _joined(lines: list[str]) -> str:
    quoted = [
        '"' + re.sub(r'(["\\])', r"\\\1", line) + '"' if set(',"') & set(line) else line for line in lines
    ]
    # GDAL leaves the quotes of a header that is alone; curl does not send one without a value
    return ",".join([*quoted, "X-None:"] if len(lines) == 1 and quoted != lines else quoted)


def as_text(value: object) -> str:
    """Write an option's value as `rasterio.Env` does."""
    return {True: "ON", False: "OFF"}[value] if isinstance(value, bool) else str(value)


Option = tuple[str | None, str]  # (path prefix, or None for the whole process; key)


class AppliedOptions:
    """The options that are set in libgdal now, and the earlier values, which `apply` puts back.

    They are set without rasterio on purpose: each time the main thread leaves an inner `rasterio.Env`,
    as `rasterio.open` does, the options of the outer one vanish for a moment in other threads.

    An inner Env that names an option of the process clears it when it is left; `put_right` sets it again.

    Not thread-safe: the caller holds a lock.
    """

    def __init__(self) -> None:
        self._now: dict[Option, str | None] = {}  # None: being set
        self._before: dict[Option, str | None] = {}

    def apply(self, wanted: Mapping[Option, str]) -> None:
        """Set all of `wanted`, and restore what earlier calls have set and `wanted` leaves out.

        A header that another copy of this package has set for the same path stays. One that another copy
        has removed does not come back. Ctrl-C may come between any two steps. The next call then does what
        this one has left.
        """
        for option in [option for option in self._now if option not in wanted]:
            _restore(option, self._now[option], self._before[option])
            del self._now[option]
        for option, value in wanted.items():
            if option not in self._now:
                self._before[option] = _get(option)
                self._now[option] = None  # from here on, it must be restored
            if self._now[option] != value:
                self._now[option] = None
                _set(option, value)
                self._now[option] = value
        self.put_right()

    def put_right(self) -> None:
        """Set the process's options again if an Env has changed them. Only `GUARDS` win over a value."""
        for (prefix, key), value in self._now.items():
            if prefix is None and value is not None:
                found = _get((None, key))
                if found is None or (key in GUARDS and found != value):
                    _set((None, key), value)

    def value(self, key: str) -> str | None:
        """Return the value that is set for the process here; None if the option is not."""
        return self._now.get((None, key))

    def configured(self, key: str) -> str | None:
        """Return a configuration option as GDAL would see it without the options applied here."""
        if (None, key) in self._now:
            return self._before[None, key] or os.environ.get(key)
        return get_config_option(key)


def _get(option: Option) -> str | None:
    prefix, key = option
    if prefix is not None:
        return get_own_path_option(prefix, key)
    # an environment variable must not come back as a setting
    return get_process_option(key)


def _set(option: Option, value: str | None) -> None:
    prefix, key = option
    encoded = None if value is None else value.encode()
    if prefix is not None:
        load().VSISetPathSpecificOption(prefix.encode(), key.encode(), encoded)
    else:
        load().CPLSetConfigOption(key.encode(), encoded)


def _restore(option: Option, value: str | None, before: str | None) -> None:
    """Put back what `_set` has replaced, unless somebody has set the option since."""
    prefix, key = option
    if (prefix is None or key == HEADER_FILE) and value is not None and _get(option) not in (value, None):
        return
    if key == HEADER_FILE and before and not header.exists(before):
        before = None  # another copy of this package has removed its own header
    _set(option, before)
