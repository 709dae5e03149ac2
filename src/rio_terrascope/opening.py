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
    with _alone(gdal.vsi_path(url)) as turn:
        late = gdal.get_config_option(gdal.LATE) if gdal.why_not_scoped() is None else None
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
                    if turn.read_when != (gdal.times_forgotten(), late):
                        gdal.read_directories(url)
                    with gdal.nothing_forgotten() as times:
                        # again: somebody may have let GDAL forget them
                        known = turn.read_when == (times, late)
                        there = turn.overviews if known else gdal.read_directories(url)
                        with gdal.quiet():
                            _ = dataset.mask_flag_enums  # the dataset's own, out of GDAL's memory
                            read = len(dataset.overviews(1)) if dataset.count else 0
                    # options may choose among the overviews
                    if args or kwargs or there is None:
                        return dataset
                    if there == read:
                        turn.read_when, turn.overviews = (times, late), there
                        return dataset
                dataset.close()
            gdal.forget(url)
    raise RasterioIOError(f"{url}: the connection breaks in the middle of the header. Next: try again later.")


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
