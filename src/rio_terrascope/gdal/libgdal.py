"""The libgdal calls that rasterio does not wrap."""

import contextlib
import ctypes
import functools
import threading
from collections.abc import Iterable, Iterator, Mapping

import rasterio
import rasterio._env

_OLDEST = (3, 7)  # path-specific options: GDAL 3.6, for HTTP options too: 3.7


@functools.cache
def load() -> ctypes.CDLL:
    """Return the libgdal that rasterio has loaded. Its symbols are found through rasterio's own module."""
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
        ("VSIMalloc", ctypes.c_void_p, ctypes.c_size_t),
        ("VSIFileFromMemBuffer", file, text, ctypes.c_void_p, ctypes.c_uint64, number),
        ("VSIRmdirRecursive", number, text),
        ("VSIFOpenL", file, text, text),
        ("VSIFReadL", ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, file),
        ("VSIFSeekL", number, file, ctypes.c_uint64, number),
        ("VSIFTellL", ctypes.c_uint64, file),
        ("VSIFCloseL", number, file),
        ("GDALOpenEx", dataset, text, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
        ("GDALGetProjectionRef", text, dataset),
        ("GDALGetGeoTransform", number, dataset, ctypes.c_void_p),
        ("GDALGetMetadata", ctypes.c_void_p, ctypes.c_void_p, text),
        ("GDALGetRasterCount", number, dataset),
        ("GDALGetRasterBand", band, dataset, number),
        ("GDALGetMaskFlags", number, band),
        ("GDALGetOverviewCount", number, band),
        ("GDALClose", number, dataset),
        ("CPLErrorReset", None),
        ("CPLGetLastErrorMsg", text),
        ("CPLPushErrorHandler", None, ctypes.c_void_p),
        ("CPLPopErrorHandler", None),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def why_not_scoped() -> str | None:
    """Say why this GDAL cannot set options per path; None if it can."""
    version = rasterio.__gdal_version__
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        return f"GDAL {version} is older than {_OLDEST[0]}.{_OLDEST[1]}"
    try:
        load()
    except (OSError, AttributeError):
        return "rasterio's libgdal does not let its functions be called"
    return None


def get_config_option(key: str) -> str | None:
    """Return a configuration option as GDAL sees it in this thread, environment variables included."""
    return decoded(load().CPLGetConfigOption(key.encode(), None))


def get_process_option(key: str) -> str | None:
    """Return an option that is set for the process: not an environment variable, nor a thread's own."""
    return decoded(load().CPLGetGlobalConfigOption(key.encode(), None))


def get_path_option(prefix: str, key: str) -> str | None:
    """Return an option as GDAL sees it for paths that begin with `prefix`."""
    return decoded(load().VSIGetPathSpecificOption(prefix.encode(), key.encode(), None))


def get_own_path_option(prefix: str, key: str) -> str | None:
    """Return the path-specific option only; None if GDAL falls back on the configuration."""
    value = get_path_option(prefix, key)
    return None if value == get_config_option(key) else value


def own_options_of_this_thread(keys: Iterable[str]) -> dict[str, str | None]:
    """Return the values that are set for this thread only; None for options that are not."""
    return {key: decoded(load().CPLGetThreadLocalConfigOption(key.encode(), None)) for key in keys}


def set_for_this_thread(options: Mapping[str, str | None]) -> None:
    """Set configuration options for this thread only; None removes one."""
    for key, value in options.items():
        encoded = None if value is None else value.encode()
        load().CPLSetThreadLocalConfigOption(key.encode(), encoded)


def remove_rasterios(keys: Iterable[str]) -> None:
    """Remove options that rasterio has set in this thread. It sets the main thread's for the process."""
    main = threading.current_thread() is threading.main_thread()
    remove = load().CPLSetConfigOption if main else load().CPLSetThreadLocalConfigOption
    for key in keys:
        remove(key.encode(), None)


@contextlib.contextmanager
def for_this_thread(key: str, value: str) -> Iterator[None]:
    """Set a configuration option inside the block, in this thread only."""
    lib = load()
    before = lib.CPLGetThreadLocalConfigOption(key.encode(), None)
    lib.CPLSetThreadLocalConfigOption(key.encode(), value.encode())
    try:
        yield
    finally:
        lib.CPLSetThreadLocalConfigOption(key.encode(), before)


@contextlib.contextmanager
def options_of_this_thread(options: Mapping[str, str]) -> Iterator[None]:
    """Set configuration options inside the block, in this thread only. They win over all others."""
    before = own_options_of_this_thread(options)
    try:
        set_for_this_thread(options)
        yield
    finally:
        set_for_this_thread(before)


def is_debugging() -> bool:
    """Tell whether the user wants to see GDAL's debug messages."""
    return (get_config_option("CPL_DEBUG") or "OFF").upper() not in ("OFF", "NO", "FALSE")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard GDAL's warnings, errors and debug messages inside the block, in this thread only.

    Outside a `rasterio.Env`, as in a new thread, GDAL prints them to stderr. Errors that matter are
    raised later, when rasterio reads the file.

    The handler is GDAL's own. Unlike rasterio's, it never takes Python's lock (the GIL). But it prints
    debug messages, which may hold signed URLs, so CPL_DEBUG is off in the block even if the user has
    set it.

    Do not call `dataset.read` inside the block. If that fails, rasterio leaves a handler behind. The
    end of the block would then remove that one instead of this one, and the thread would stay quiet.
    """
    if why_not_scoped() is not None:
        yield
        return
    lib = load()
    lib.CPLPushErrorHandler(ctypes.cast(lib.CPLQuietErrorHandler, ctypes.c_void_p))
    try:
        with for_this_thread("CPL_DEBUG", "OFF"):
            yield
    finally:
        lib.CPLPopErrorHandler()


def decoded(value: bytes | None) -> str | None:
    """Return a C string of libgdal as text."""
    return None if value is None else value.decode(errors="replace")
