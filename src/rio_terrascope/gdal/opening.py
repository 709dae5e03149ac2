"""Opening a file over HTTP, in spite of what GDAL keeps of it and of what other threads are doing."""

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
    """Open a URL with `rasterio.open`, one thread at a time, and with all of its header.

    Where the connection broke in the middle of the header, it is opened once more: GDAL takes what came
    for the whole, a dataset that may lack its georeferencing, nodata or colours.

    rasterio holds Python's lock (the GIL) when it first asks a dataset for its masks or overviews, and
    GDAL reads their directories then. Where another thread is fetching the same bytes, GDAL waits for it;
    and where that one has a warning to tell ("503, retrying"), it waits for the GIL: both for ever, and
    with them every other thread. So the directories are read here, without the GIL at first, while no other
    thread opens the URL.

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
    with _alone(vsi_path(url)) as turn:
        late = libgdal.get_config_option(LAZY_OFFSETS) if libgdal.why_not_scoped() is None else None
        for _ in range(2):
            try:
                dataset = rasterio.open(url, *args, **kwargs)
            except RasterioIOError as error:
                # of a server that does not answer, nothing more is asked
                if not messages.is_about_the_header(error) or not is_cut_short(url):
                    raise
            else:
                if not is_cut_short(url):
                    if turn.read_when != (cache.times_forgotten(), late):
                        read_directories(url)
                    with cache.nothing_forgotten() as times:
                        # again: somebody may have let GDAL forget them
                        known = turn.read_when == (times, late)
                        there = turn.overviews if known else read_directories(url)
                        with libgdal.quiet():
                            _ = dataset.mask_flag_enums  # the dataset's own, out of GDAL's memory
                            read = len(dataset.overviews(1)) if dataset.count else 0
                    # options may choose among the overviews
                    if args or kwargs or there is None:
                        return dataset
                    if there == read:
                        turn.read_when, turn.overviews = (times, late), there
                        return dataset
                dataset.close()
            cache.forget(url)
    raise RasterioIOError(
        with_next_step(f"{url}: the connection breaks in the middle of the header", "try again later")
    )


@libgdal.quiet()
def is_cut_short(path: str) -> bool:
    """Tell whether GDAL has only a part of a file's first bytes, from a connection that broke in the middle.

    GDAL takes such a part for the whole: what it opens from it may lack its georeferencing, its
    nodata or its colours. No request is made for a file that has been opened.
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
    """Let GDAL read all of the header of a file that has been opened; return how many overviews it has.

    -1 where that fails: GDAL leaves out the overviews whose directories it cannot read, without an error.
    None where GDAL cannot be asked.

    Without Python's lock, which ctypes gives up during a call; why, `open_whole` tells.
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
def _alone(path: str) -> Iterator["_Turn"]:
    """Let one thread at a time pass for each path; those that wait learn what the ones before have read."""
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
    """A path that is being opened, and how many threads wish to."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting = 0
        self.overviews: int | None = None
        # after how many times of forgetting, and whether late, its directories were read
        self.read_when: tuple[int, str | None] | None = None


_turns: dict[str, _Turn] = {}
_turns_lock = threading.Lock()


def _after_fork_in_child() -> None:
    # threads of the parent, which may have held the locks, did not come along
    global _turns_lock
    _turns_lock = threading.Lock()
    _turns.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
