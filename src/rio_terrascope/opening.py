"""Opening a file over HTTP, in spite of what GDAL keeps of it and of what other threads are doing."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import rasterio
from rasterio.errors import RasterioIOError

from rio_terrascope import gdal

NO_RASTER = "not recognized as being in a supported file format"
"""How GDAL says that what it got is no raster."""

_INCOMPLETE = (NO_RASTER, "Failed to read directory", "IO error during reading of")
"""... or that its header is not all there."""


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
    with _alone(gdal.vsi_path(url)):
        for _ in range(2):
            try:
                dataset = rasterio.open(url, *args, **kwargs)
            except RasterioIOError as error:
                # of a server that does not answer, nothing more is asked
                came = any(text in str(error) for text in _INCOMPLETE)
                if not came or not gdal.is_cut_short(url):
                    raise
            else:
                if not gdal.is_cut_short(url):
                    gdal.read_directories(url)
                    with gdal.nothing_forgotten():
                        there = gdal.read_directories(url)  # again: somebody may have let GDAL forget them
                        _ = dataset.mask_flag_enums  # the dataset's own, out of GDAL's memory
                        read = len(dataset.overviews(1)) if dataset.count else 0
                    # options may choose among the overviews
                    if args or kwargs or there is None or there == read:
                        return dataset
                dataset.close()
            gdal.forget(url)
    raise RasterioIOError(f"{url}: the connection breaks in the middle of the header. Next: try again later.")


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    """Let one thread at a time pass for each path."""
    with _turns_lock:
        turn = _turns.setdefault(path, _Turn())
        turn.waiting += 1
    try:
        with turn.lock:
            yield
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


_turns: dict[str, _Turn] = {}
_turns_lock = threading.Lock()


def _after_fork_in_child() -> None:
    # threads of the parent, which may have held the locks, did not come along
    global _turns_lock
    _turns_lock = threading.Lock()
    _turns.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
