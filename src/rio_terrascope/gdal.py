"""The libgdal calls that rasterio does not wrap, and the options that this package sets with them.

GDAL reads an option of an HTTP request from three places: path-specific options (`VSISetPathSpecificOption
<https://gdal.org/en/stable/api/cpl.html>`_, process-wide, for paths with a given beginning), then the
thread's, then the process's configuration. Path-specific ones are what confines a token to an origin.
"""

import contextlib
import ctypes
import functools
import logging
import os
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import rasterio
import rasterio._env

from rio_terrascope.errors import SettingsError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

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

_CHUNK = 16384  # bytes that GDAL fetches at least
_OF_RASTER = 2  # GDAL_OF_RASTER, for reading
_FAILURE = 3  # CE_Failure
_OLDEST = (3, 7)  # path-specific options: GDAL 3.6, for HTTP options too: 3.7


_memory = threading.Lock()  # held while something is forgotten, or must not be
_times_forgotten = 0


@functools.cache
def _libgdal() -> ctypes.CDLL:
    """Return the libgdal that rasterio has loaded; its symbols are found through rasterio's own module."""
    lib = ctypes.CDLL(rasterio._env.__file__)
    text, file, number = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int
    dataset = band = ctypes.c_void_p
    for name, result, *arguments in (
        ("VSISetPathSpecificOption", None, text, text, text),
        ("VSIGetPathSpecificOption", text, text, text, text),
        ("VSICurlPartialClearCache", None, text),
        ("VSICurlClearCache", None),
        ("CPLSetConfigOption", None, text, text),
        ("CPLGetConfigOption", text, text, text),
        ("CPLGetGlobalConfigOption", text, text, text),
        ("CPLSetThreadLocalConfigOption", None, text, text),
        ("CPLGetThreadLocalConfigOption", text, text, text),
        ("VSIFOpenL", file, text, text),
        ("VSIFReadL", ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, file),
        ("VSIFSeekL", number, file, ctypes.c_uint64, number),
        ("VSIFTellL", ctypes.c_uint64, file),
        ("VSIFCloseL", number, file),
        ("GDALOpenEx", dataset, text, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
        ("GDALGetRasterBand", band, dataset, number),
        ("GDALGetMaskFlags", number, band),
        ("GDALGetOverviewCount", number, band),
        ("GDALClose", number, dataset),
        ("CPLErrorReset", None),
        ("CPLGetLastErrorType", number),
        ("CPLPushErrorHandler", None, ctypes.c_void_p),
        ("CPLPopErrorHandler", None),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def why_not_scoped() -> str | None:
    """Say why options cannot be set per path with this GDAL, or None where they can."""
    version = rasterio.__gdal_version__
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        return f"GDAL {version} is older than {_OLDEST[0]}.{_OLDEST[1]}"
    try:
        _libgdal()
    except (OSError, AttributeError):
        return "rasterio's libgdal does not let its functions be called"
    return None


def get_config_option(key: str) -> str | None:
    """Return a configuration option as GDAL sees it in this thread, environment variables included."""
    return _decoded(_libgdal().CPLGetConfigOption(key.encode(), None))


def get_path_option(prefix: str, key: str) -> str | None:
    """Return an option as GDAL sees it for paths that begin with `prefix`."""
    return _decoded(_libgdal().VSIGetPathSpecificOption(prefix.encode(), key.encode(), None))


def get_own_path_option(prefix: str, key: str) -> str | None:
    """Return the path-specific option alone: None where GDAL falls back on the configuration."""
    value = get_path_option(prefix, key)
    return None if value == get_config_option(key) else value


@contextlib.contextmanager
def for_this_thread(key: str, value: str) -> Iterator[None]:
    """Set a configuration option inside the block, and in this thread alone."""
    lib = _libgdal()
    before = lib.CPLGetThreadLocalConfigOption(key.encode(), None)
    lib.CPLSetThreadLocalConfigOption(key.encode(), value.encode())
    try:
        yield
    finally:
        lib.CPLSetThreadLocalConfigOption(key.encode(), before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard GDAL's warnings, errors and debug messages inside the block, in this thread alone.

    Outside a `rasterio.Env`, as in a new thread, GDAL prints them to stderr. Whatever is wrong is
    raised later, when rasterio reads the file.

    The handler is GDAL's own. It never takes Python's lock (the GIL), as rasterio's does. It would
    print debug messages, which may hold signed URLs, so CPL_DEBUG is off in the block even where the
    user has set it. Outside of it, the user gets them as ever: rasterio logs them inside an Env.

    Do not call `dataset.read` inside the block. rasterio leaves a handler of its own behind when that
    fails; it would be popped instead of this one, and the thread would stay quiet.
    """
    if why_not_scoped() is not None:
        yield
        return
    lib = _libgdal()
    lib.CPLPushErrorHandler(ctypes.cast(lib.CPLQuietErrorHandler, ctypes.c_void_p))
    try:
        with for_this_thread("CPL_DEBUG", "OFF"):
            yield
    finally:
        lib.CPLPopErrorHandler()


def forget(path: str) -> None:
    """Drop what GDAL has cached of all files whose ``/vsicurl/...`` path begins with `path`.

    Bytes, sizes, and that an open has failed: without this a 401 is answered again from memory.
    """
    if why_not_scoped() is None:
        with _memory:
            _count_forgetting()
            _libgdal().VSICurlPartialClearCache(vsi_path(path).encode())
    else:
        with contextlib.suppress(ImportError):  # rasterio has it from 1.5 on
            from rasterio.cache import invalidate

            invalidate(path)


def forget_all() -> None:
    """Drop everything that GDAL has cached of HTTP, its open connections included."""
    _count_forgetting()
    _libgdal().VSICurlClearCache()


@quiet()
def is_cut_short(path: str) -> bool:
    """Tell whether GDAL has only a part of a file's first bytes, from a connection that broke in the middle.

    GDAL takes such a part for the whole: what it opens from it may lack its georeferencing, its
    nodata or its colours. No request is made for a file that has been opened.
    """
    if why_not_scoped() is not None:
        return False
    lib = _libgdal()
    file = lib.VSIFOpenL(vsi_path(path).encode(), b"rb")
    if file is None:
        return False
    ingested = get_config_option("GDAL_INGESTED_BYTES_AT_OPEN") or ""
    try:
        lib.VSIFSeekL(file, 0, os.SEEK_END)
        wanted = min(lib.VSIFTellL(file), int(ingested) if ingested.isdecimal() else _CHUNK)
        lib.VSIFSeekL(file, 0, os.SEEK_SET)
        got = lib.VSIFReadL(ctypes.create_string_buffer(wanted), 1, wanted, file)
    finally:
        lib.VSIFCloseL(file)
    return bool(0 < got < wanted)


def _count_forgetting() -> None:
    global _times_forgotten
    _times_forgotten += 1


def times_forgotten() -> int:
    """Return how often `forget` has been called."""
    return _times_forgotten


@contextlib.contextmanager
def nothing_forgotten() -> Iterator[int]:
    """Let no thread call `forget` inside the block, and give how often that was done before."""
    with _memory:
        yield _times_forgotten


@quiet()
def read_directories(path: str) -> int | None:
    """Let GDAL read all of the header of a file that has been opened; return how many overviews it has.

    -1 where that fails: GDAL leaves out the overviews whose directories it cannot read, without an error.
    None where GDAL cannot be asked.

    Without Python's lock, which ctypes gives up during a call; why, `opening.open_whole` tells.
    """
    if why_not_scoped() is not None:
        return None
    lib = _libgdal()
    lib.CPLErrorReset()
    dataset = lib.GDALOpenEx(vsi_path(path).encode(), _OF_RASTER, None, None, None)
    if not dataset:
        return -1
    band = lib.GDALGetRasterBand(dataset, 1)
    overviews: int = 0
    if band:
        lib.GDALGetMaskFlags(band)
        overviews = lib.GDALGetOverviewCount(band)
    failed = lib.CPLGetLastErrorType() >= _FAILURE
    lib.GDALClose(dataset)
    return -1 if failed else overviews


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


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


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
    return _decoded(_libgdal().CPLGetGlobalConfigOption(key.encode(), None))


def _set(option: Option, value: str | None) -> None:
    prefix, key = option
    encoded = None if value is None else value.encode()
    if prefix is not None:
        _libgdal().VSISetPathSpecificOption(prefix.encode(), key.encode(), encoded)
    else:
        _libgdal().CPLSetConfigOption(key.encode(), encoded)


# the only names in the folder of a header file
_HEADER, _CONFIG, _NEXT = "header", "gdalrc", "next"


class HeaderFile:
    """A file with the Authorization line, private to the user, that GDAL reads at every request.

    It lies alone in a folder (0700) under XDG_RUNTIME_DIR, which is memory and private where
    there is one, else under the temporary folder. The folder is locked for as long as its
    process lives: a folder that nobody locks was left by a process that was killed, and the
    next one sweeps it.

    Raises
    ------
    SettingsError
        If no place can be written to.
    """

    _PREFIX = ".rio-terrascope-header-"

    def __init__(self) -> None:
        sweep()
        self.folder, self._lock = _private_folder(self._PREFIX)
        self.path = self.folder / _HEADER
        self._cleanup = weakref.finalize(self, _remove, self.folder, self._lock, os.getpid())
        _header_files.add(self)

    def write(self, access_token: str) -> None:
        """Replace the token, in one step: a request meets the old line or the new one.

        Raises
        ------
        OSError
            If the disk is full, say; the old line stays.
        """
        self._replace(self.path, f"Authorization: Bearer {access_token}\n")

    def write_config(self, text: str) -> Path:
        """Write a file beside the token's, for GDAL_CONFIG_FILE to name; `close` removes it too.

        Raises
        ------
        OSError
            If the disk is full, say.
        """
        path = self.folder / _CONFIG
        self._replace(path, text)
        return path

    def _replace(self, path: Path, text: str) -> None:
        beside = self.folder / _NEXT
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        beside.replace(path)

    def close(self) -> None:
        """Remove the file and its folder; in a forked child, leave the parent's alone."""
        self._cleanup()

    def disown(self) -> None:
        """Let go of the parent's folder in a forked child, so that it is locked by the parent alone."""
        self._cleanup.detach()
        if self._lock is not None:
            os.close(self._lock)


_header_files: "weakref.WeakSet[HeaderFile]" = weakref.WeakSet()


def close_header_files() -> None:
    """Remove all header files of this process: for who ends it without ado."""
    for header_file in list(_header_files):
        header_file.close()


def _folders_for_secrets() -> Iterable[Path]:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield Path(runtime)
    with contextlib.suppress(FileNotFoundError):  # no temporary folder is usable
        yield Path(tempfile.gettempdir())


def _private_folder(prefix: str) -> tuple[Path, int | None]:
    """Make a folder (0700) and lock it."""
    trouble = []
    for parent in _folders_for_secrets():
        for _ in range(10):  # a sweeper may take the new folder for an abandoned one, once in a blue moon
            try:
                folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            except OSError as error:
                trouble.append(f"{parent} ({error.strerror})")
                break
            lock = _try_lock(folder)
            if folder.is_dir() and (lock is not None or fcntl is None):
                return folder, lock
    raise SettingsError(
        "no folder to keep the token in for GDAL: tried "
        f"{', '.join(trouble) or 'none, as there is no temporary folder'}. "
        "Next: make TMPDIR name a folder that can be written to."
    )


def _try_lock(folder: Path) -> int | None:
    """Lock a folder for as long as this process lives; None if somebody else has."""
    if fcntl is None:  # pragma: no cover - Windows
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(folder: Path, lock: int | None, owner: int) -> None:
    """Remove a header file and its folder, and nothing else that might be in there."""
    if os.getpid() != owner:
        return
    with contextlib.suppress(OSError):
        for name in (_HEADER, _CONFIG, _NEXT):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    if lock is not None:
        os.close(lock)


def sweep() -> None:
    """Remove the folders of header files that killed processes have left behind."""
    if fcntl is None:  # pragma: no cover - Windows
        return
    for parent in _folders_for_secrets():
        for folder in parent.glob(f"{HeaderFile._PREFIX}*"):
            with contextlib.suppress(OSError):
                if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                    continue
                lock = _try_lock(folder)
                if lock is not None:
                    _remove(folder, lock, os.getpid())
                    log.info("swept %s, which a killed process had left", folder)


def _after_fork_in_child() -> None:
    global _memory
    _memory = threading.Lock()  # a thread of the parent, which did not come along, may have held it


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
