"""Opening a file over HTTP, whatever GDAL has cached and other threads are doing.

One rule holds in this package: no call that can reach the network through rasterio or libgdal is made
while Python's lock (the GIL) is held. Such a call stops all threads for as long as the server takes. Often
it stops them without end: GDAL lets a thread wait for the bytes that another thread is fetching, and that
thread needs the GIL if it has a warning to report ("503, retrying"), because rasterio's error handler is
Python.

ctypes releases the GIL during a call. rasterio does so too when it opens a file and reads pixels, but not in:

=======================================================  ==============================================
``open``, after it has opened: CRS, transform            sidecar files, if the user lets GDAL look for them
``mask_flag_enums``, ``read``, which calls it            the directories of masks and overviews
``read_masks``, ``dataset_mask``, ``overviews``          the same
``profile``, ``block_size``, ``tags``,                   the same, and sidecar files
``tag_namespaces``, ``subdatasets``, ``descriptions``,
``offsets``, ``scales``, ``units``, ``colorinterp``,
``colormap``, ``gcps``, ``rpcs``
``get_tag_item``                                         block offsets that are not loaded yet
``checksum``, ``statistics``, ``stats``                  pixels
``read(boundless=True, masked=True, window=...)``        the file is opened once more, in a VRT
=======================================================  ==============================================

`open_whole` returns datasets that have all but the last three rows in memory. tests/gdal/test_gil.py
has the list as data, and the modules that may use each name.
"""

import contextlib
import ctypes
import inspect
import os
import secrets
import threading
import weakref
from typing import Any

import rasterio
import rasterio.env
from rasterio.errors import RasterioIOError
from rasterio.io import DatasetReader

from rio_terrascope.errors import with_next_step
from rio_terrascope.gdal import cache, libgdal, messages
from rio_terrascope.gdal.options import as_text, vsi_path

_CHUNK = 16384  # bytes that GDAL fetches at least
_FLAGS = 0x02 | 0x20 | 0x40  # GDAL_OF_RASTER, _SHARED and _VERBOSE_ERROR, as rasterio passes them
_SIGNATURE = inspect.signature(rasterio.open)

# Of all open options, GDAL accepts this one for every driver, and with every value.
_OURS = "VALIDATE_OPEN_OPTIONS"


def open_whole(url: Any, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
    """Open a dataset as `rasterio.open` does, and over HTTP with its whole header.

    If a request for the header fails, GDAL may leave out what it could not read: the georeferencing,
    nodata, colours or overviews. It only warns. So if GDAL reports anything, open the file again.

    One thread at a time opens a URL. The others then find its header in GDAL's cache.

    Parameters
    ----------
    url : str
        A URL, or a path that begins with ``/vsicurl/``. Whatever else `rasterio.open` takes is opened by it.
    name : str, optional
        What the dataset is called if that is not `url`: the URL that redirects there.
    *args, **kwargs
        As for `rasterio.open`.

    Returns
    -------
    rasterio.DatasetReader or other dataset object

    Raises
    ------
    rasterio.errors.RasterioIOError
        As `rasterio.open` does, and if the header cannot be read whole.
    """
    given = _SIGNATURE.bind(url, *args, **kwargs).arguments
    is_plain = not is_http(url) or given.get("mode", "r") != "r" or given.get("opener")
    if is_plain or libgdal.why_not_scoped() is not None:
        return rasterio.open(url, *args, **kwargs)
    options = given.pop("kwargs", {})
    # GDAL shares a dataset with the thread that has opened it, as long as path and options are the same.
    # Thread ids are used again, so without an option of its own, a dataset could reach a second caller.
    own = options | {_OURS: secrets.token_hex(16)}
    with _turn(vsi_path(url)), rasterio.env.env_ctx_if_needed():
        # the user's debug messages come by rasterio's handler, which the Env has set
        with contextlib.nullcontext() if libgdal.is_debugging() else libgdal.quiet():
            handle = _open(url, given.get("driver"), own)
        # rasterio takes over the dataset that GDAL has just opened, with all that is in its memory
        own["sharing"] = not given.get("thread_safe")
        try:
            if name is None or name == url:
                dataset = rasterio.open(**given | own)
            else:
                dataset = Renamed(name, vsi_path(url), given.get("driver"), **own)
        finally:
            libgdal.load().GDALClose(handle)  # counts down its users
    dataset.options.clear()
    dataset.options.update(options)
    return dataset


class Renamed(DatasetReader):
    """A dataset with the name of the URL that led to it. The target's may hold a signature, and expires."""

    name = ""  # in place of rasterio's attribute, which cannot be set

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.name = name
        super().__init__(*args, **kwargs)


def is_http(url: Any) -> bool:
    """Tell whether GDAL reads a URL or path over HTTP."""
    return isinstance(url, str) and url.lower().startswith(("http://", "https://", "/vsicurl/"))


def _open(url: str, driver: str | None, options: dict[str, Any]) -> int:
    """Open a URL, let GDAL read all that `rasterio` would read with the GIL held, and return the dataset."""
    lib = libgdal.load()
    drivers = _string_list([driver]) if isinstance(driver, str) else None
    settings = _string_list([f"{key.upper()}={as_text(value)}" for key, value in options.items()])
    before = None
    for _ in range(2):
        lib.CPLErrorReset()
        dataset = lib.GDALOpenEx(vsi_path(url).encode(), _FLAGS, drivers, settings, None)
        said = _said()
        if dataset:
            _read_header(dataset)
            said += _said()
        is_about_header = messages.is_about_the_header(said)
        is_cut_short = (dataset or is_about_header) and _is_cut_short(url)
        if not dataset and not is_cut_short and (messages.is_not_a_raster(said) or not is_about_header):
            raise RasterioIOError(said or f"{url}: GDAL cannot open it")
        # a file may have tags that GDAL does not understand: it complains of the same again then
        if dataset and not is_cut_short and (not said or (said == before and not is_about_header)):
            return int(dataset)
        lib.GDALClose(dataset)
        cache.forget(url)
        before = said
    raise RasterioIOError(
        with_next_step(f"{url}: the connection breaks in the middle of the header", "try again later")
    )


def _said() -> str:
    """Return GDAL's last error or warning, and forget it."""
    lib = libgdal.load()
    said = libgdal.decoded(lib.CPLGetLastErrorMsg()) or ""
    lib.CPLErrorReset()
    return said


def _read_header(dataset: int) -> None:
    """Let GDAL read what rasterio asks for with the GIL held: the table at the top of this module."""
    lib = libgdal.load()
    lib.GDALGetProjectionRef(dataset)
    lib.GDALGetGeoTransform(dataset, (ctypes.c_double * 6)())
    for domain in (None, b"RPC", b"EXIF"):
        lib.GDALGetMetadata(dataset, domain)
    for number in range(1, lib.GDALGetRasterCount(dataset) + 1):
        band = lib.GDALGetRasterBand(dataset, number)
        lib.GDALGetMaskFlags(band)
        lib.GDALGetOverviewCount(band)
        lib.GDALGetMetadata(band, None)


def _is_cut_short(url: str) -> bool:
    """Tell whether GDAL has only a part of a file's first bytes, because a connection broke.

    For a file that has been opened, this makes no request.
    """
    lib = libgdal.load()
    file = lib.VSIFOpenL(vsi_path(url).encode(), b"rb")
    if file is None:
        return False
    ingested = libgdal.get_config_option("GDAL_INGESTED_BYTES_AT_OPEN") or ""
    try:
        lib.VSIFSeekL(file, 0, os.SEEK_END)
        wanted = min(lib.VSIFTellL(file), int(ingested) if ingested.isdecimal() else _CHUNK)
        lib.VSIFSeekL(file, 0, os.SEEK_SET)
        got = lib.VSIFReadL(ctypes.create_string_buffer(wanted), 1, wanted, file)
    finally:
        lib.VSIFCloseL(file)
    return bool(0 < got < wanted)


def _string_list(strings: list[str]) -> "ctypes.Array[ctypes.c_char_p]":
    return (ctypes.c_char_p * (len(strings) + 1))(*[string.encode() for string in strings], None)


_turns: "weakref.WeakValueDictionary[str, threading.Lock]" = weakref.WeakValueDictionary()
_turns_lock = threading.Lock()


def _turn(path: str) -> threading.Lock:
    """Return the lock of a path. It is forgotten when no thread holds it or waits for it."""
    with _turns_lock:
        return _turns.setdefault(path, threading.Lock())


def _after_fork_in_child() -> None:
    # threads of the parent may have held the locks, and do not survive a fork
    global _turns, _turns_lock
    _turns, _turns_lock = weakref.WeakValueDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
