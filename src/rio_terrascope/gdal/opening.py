"""Opening a file over HTTP, whatever GDAL has cached and other threads are doing."""

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from typing import Any

import rasterio
from rasterio.errors import RasterioIOError

from rio_terrascope.errors import with_next_step
from rio_terrascope.gdal import cache, libgdal, messages
from rio_terrascope.gdal.options import LAZY_OFFSETS, vsi_path

_CHUNK = 16384  # bytes that GDAL fetches at least
_OF_RASTER = 2  # GDAL_OF_RASTER, for reading
_FAILURE = 3  # CE_Failure


def open_whole(url: str, *args: Any, **kwargs: Any) -> Any:
    """Open a URL with `rasterio.open`, one thread at a time, and with its whole header.

    If the connection broke inside the header, open the file again. GDAL would treat the partial
    header as complete, and return a dataset without georeferencing, nodata or colours.

    Then read the directories of the overviews and masks, while no other thread opens the URL. This
    avoids a deadlock. rasterio holds Python's lock (the GIL) when it first asks a dataset for its masks
    or overviews, and GDAL reads their directories then. If another thread is fetching the same bytes,
    GDAL waits for that thread; and if that thread has a warning to report ("503, retrying"), it waits
    for the GIL. Neither ever ends.

    Parameters
    ----------
    url : str
        A URL, or a path that begins with ``/vsicurl/``.
    *args, **kwargs
        As for `rasterio.open`.

    Returns
    -------
    rasterio.DatasetReader or other dataset object

    Raises
    ------
    rasterio.errors.RasterioIOError
        As `rasterio.open` does, and if the connection breaks again.
    """
    with _one_at_a_time(vsi_path(url)) as turn:
        for _ in range(2):
            dataset = _open(url, *args, **kwargs)
            if dataset is not None:
                # arguments may choose among the overviews, so their number tells nothing then
                if _read_whole_header(dataset, url, turn) or args or kwargs:
                    return dataset
                dataset.close()
            cache.forget(url)
    raise RasterioIOError(
        with_next_step(f"{url}: the connection breaks in the middle of the header", "try again later")
    )


def _open(url: str, *args: Any, **kwargs: Any) -> Any:
    """Open a URL with `rasterio.open`; return None if the connection broke inside the header."""
    try:
        dataset = rasterio.open(url, *args, **kwargs)
    except RasterioIOError as error:
        # ask nothing more of a server that does not answer
        if messages.is_about_the_header(error) and is_cut_short(url):
            return None
        raise
    if is_cut_short(url):
        dataset.close()
        return None
    return dataset


def _read_whole_header(dataset: Any, url: str, turn: "_Turn") -> bool:
    """Let GDAL read all directories; return False if it has left out an overview."""
    lazy = libgdal.get_config_option(LAZY_OFFSETS) if libgdal.why_not_scoped() is None else None
    if turn.read_when != (cache.times_forgotten(), lazy):
        read_directories(url)
    with cache.nothing_forgotten() as times:
        # again, since another thread may have cleared the cache since
        known = turn.read_when == (times, lazy)
        in_file = turn.overviews if known else read_directories(url)
        with libgdal.quiet():
            _ = dataset.mask_flag_enums  # the dataset's own directories, out of GDAL's cache
            in_dataset = len(dataset.overviews(1)) if dataset.count else 0
    if in_file is None:
        return True
    if in_file != in_dataset:
        return False
    turn.read_when, turn.overviews = (times, lazy), in_file
    return True


@libgdal.quiet()
def is_cut_short(path: str) -> bool:
    """Tell whether GDAL has only a part of a file's first bytes, because a connection broke.

    For a file that has been opened, this makes no request.
    """
    if libgdal.why_not_scoped() is not None:
        return False
    lib = libgdal.load()
    file = lib.VSIFOpenL(vsi_path(path).encode(), b"rb")
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


@libgdal.quiet()
def read_directories(path: str) -> int | None:
    """Let GDAL read the whole header of a file that has been opened; return its number of overviews.

    It is -1 if that fails: GDAL leaves out overviews whose directories it cannot read, without an error.
    It is None if libgdal's functions cannot be called.

    ctypes releases Python's lock (the GIL) during a call; `open_whole` says why that matters.
    """
    if libgdal.why_not_scoped() is not None:
        return None
    lib = libgdal.load()
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


@contextlib.contextmanager
def _one_at_a_time(path: str) -> Iterator["_Turn"]:
    """Let one thread at a time open a path. Threads that wait learn what earlier ones have read."""
    with _turns_lock:
        turn = _turns.setdefault(path, _Turn())
        turn.waiting += 1
    try:
        with turn.lock:
            yield turn
    finally:
        with _turns_lock:
            turn.waiting -= 1
            if not turn.waiting:
                _turns.pop(path, None)


class _Turn:
    """A path that is being opened, and the number of threads that open it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting = 0
        self.overviews: int | None = None
        # when its directories were read: how often the cache had been cleared, and LAZY_OFFSETS
        self.read_when: tuple[int, str | None] | None = None


_turns: dict[str, _Turn] = {}
_turns_lock = threading.Lock()


def _after_fork_in_child() -> None:
    # threads of the parent may have held the locks, and do not survive a fork
    global _turns_lock
    _turns_lock = threading.Lock()
    _turns.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
