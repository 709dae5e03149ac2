"""The options that this package sets in GDAL, and whose value wins.

GDAL reads an option of an HTTP request from three places: path-specific options (`VSISetPathSpecificOption
<https://gdal.org/en/stable/api/cpl.html>`_, process-wide, for paths with a given beginning), then the
thread's, then the process's configuration. Path-specific ones are what confines a token to an origin.
"""

from collections.abc import Mapping

from rio_terrascope.gdal.libgdal import decoded, get_config_option, get_own_path_option, load

HEADER_FILE = "GDAL_HTTP_HEADER_FILE"
HEADERS = "GDAL_HTTP_HEADERS"

# Where a redirect leads to a signed S3 URL, GDAL goes on there by itself, and with the header
# file's lines. This stops it. Not honoured per path, so it is set for the process.
S3_REDIRECT = "CPL_VSIL_CURL_USE_S3_REDIRECT"

# Whether GDAL reads where a GeoTIFF's blocks are only when they are read.
LATE = "GTIFF_USE_DEFER_STRILE_LOADING"

# The options that make windowed reads fast and patient. GDAL honours these per path:
PATH_OPTIONS = {
    # no sidecar requests and no directory listing: 13 requests for open + one window become 3
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    # rides out 429, 502, 503, 504 and resets: waits about 0.5 + 1 + 2 s before it gives up
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    # a connection that brings less than 100 bytes a second for half a minute is given up
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "100",
}
# ... and these for the whole process only (checked in tests/gdal/test_gdal_options.py):
PROCESS_OPTIONS = {
    # the headers of a tile with its overviews in one request instead of two
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    # where the blocks are is read on opening: two requests more for a WorldCover tile, whose overviews
    # have many blocks. Where GDAL cannot read it later on, it takes blocks for empty: zeros and no error
    LATE: "NO",
    # GDAL's defaults today, named because the reads here count on them
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
}

# Empty, it keeps requests from a proxy that HTTP_PROXY names. Honoured per path.
PROXY = "GDAL_HTTP_PROXY"


def vsi_path(url: str) -> str:
    """Return the path that GDAL knows an ``http(s)://`` URL by."""
    return url if url.startswith("/vsi") else f"/vsicurl/{url}"


def without_authorization(headers: str) -> str:
    """Return a GDAL_HTTP_HEADERS value, comma-separated, less its Authorization lines."""
    lines = headers.split(",")
    return ",".join(line for line in lines if not line.strip().lower().startswith("authorization:"))


def as_text(value: object) -> str:
    """Write an option's value as `rasterio.Env` does."""
    return {True: "ON", False: "OFF"}[value] if isinstance(value, bool) else str(value)


Option = tuple[str | None, str]  # (path prefix, or None for the whole process; key)


class AppliedOptions:
    """The options that are set in libgdal now, and what was there before, to be put back.

    Set outside of rasterio on purpose: the options of a `rasterio.Env` vanish for moments in
    other threads, each time that the main thread leaves an inner one, as `rasterio.open` does.
    Not thread-safe; the caller holds a lock.
    """

    def __init__(self) -> None:
        self._now: dict[Option, str] = {}
        self._before: dict[Option, str | None] = {}

    def apply(self, wanted: Mapping[Option, str]) -> None:
        """Set all of `wanted`, and put back what was set by an earlier call and is wanted no more."""
        for option in [option for option in self._now if option not in wanted]:
            _set(option, self._before.pop(option))
            del self._now[option]
        for option, value in wanted.items():
            if option not in self._now:
                self._before[option] = _get(option)
            if self._now.get(option) != value:
                _set(option, value)
                self._now[option] = value

    def theirs(self, key: str) -> str | None:
        """Return a configuration option as it would be without what is applied here."""
        if (None, key) in self._now:
            return self._before[None, key]
        return get_config_option(key)


def _get(option: Option) -> str | None:
    prefix, key = option
    if prefix is not None:
        return get_own_path_option(prefix, key)
    # what was set for the process alone: an environment variable must not be put back as a setting
    return decoded(load().CPLGetGlobalConfigOption(key.encode(), None))


def _set(option: Option, value: str | None) -> None:
    prefix, key = option
    encoded = None if value is None else value.encode()
    if prefix is not None:
        load().VSISetPathSpecificOption(prefix.encode(), key.encode(), encoded)
    else:
        load().CPLSetConfigOption(key.encode(), encoded)
