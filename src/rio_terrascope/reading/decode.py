"""Decode blocks that are in memory. GDAL does it, and reaches neither the network nor the disk."""

import contextlib
import itertools
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import rasterio
import rasterio.env
from rasterio.crs import CRS
from rasterio.errors import RasterioError, RasterioIOError

from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.opening import Renamed
from rio_terrascope.gdal.sparse import Buffer, Piece, sparse_file, whole_file

# Options of the user's that would change pixels, or make GDAL look for other files. Those that change the
# georeferencing hold here as they do in `rasterio.open`.
GDAL_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_INGESTED_BYTES_AT_OPEN": "1024",
    "GDAL_NUM_THREADS": "1",  # more of them turn blocks that cannot be read into zeros
    "GTIFF_USE_DEFER_STRILE_LOADING": "NO",  # likewise
    "GTIFF_IGNORE_READ_ERRORS": "NO",  # likewise
    "GDAL_NO_COSTLY_OVERVIEW": "NO",  # zeros in place of pixels
    "GTIFF_DIRECT_IO": "NO",
    "GTIFF_VIRTUAL_MEM_IO": "NO",
    "GTIFF_HAS_OPTIMIZED_READ_MULTI_RANGE": "NO",
    "GTIFF_FORCE_RGBA": "NO",
    "GTIFF_IMPLICIT_JPEG_OVR": "OFF",  # rasterio's default
    "GDAL_TIFF_INTERNAL_MASK_TO_8BIT": "YES",
    "CONVERT_YCBCR_TO_RGB": "YES",
    "GDAL_RASTERIO_RESAMPLING": "NEAR",
    "GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD": "1",  # GDAL's own would repeat pixels of an overview
}

_FILLING = b"\xff" * 2**18

# Formats of one file. Others, such as VRT, name files and URLs that GDAL would open.
WHOLE_FILE_DRIVERS = ("GTiff", "PNG", "JPEG", "JP2OpenJPEG", "WEBP", "GIF", "BMP", "netCDF", "HDF5", "GRIB")


def open_pieces(
    url: str, size: int, pieces: Iterable[Piece], *, left_out: Iterable[tuple[int, int]] = ()
) -> AbstractContextManager[Any]:
    """Open a GeoTIFF of which only some pieces are there. Reading what is missing fails.

    Parameters
    ----------
    url : str
        What the dataset is called.
    size : int
        Of the whole file, in bytes.
    pieces : iterable of (offset, bytes-like)
        The header (`Layout.header`), and the blocks that are read. They must not change inside the block.
    left_out : iterable of (offset, length)
        `Layout.left_out`. Reading pixels of these images fails.

    Returns
    -------
    context manager of rasterio.DatasetReader
        For this thread, and for use inside the block only. To read pixels, enter `pinned_options`. All
        metadata is the file's own, except `files`, which has a path in memory. If libgdal is closed to
        Python, pixels come more slowly.

    Raises
    ------
    rasterio.errors.RasterioIOError
        If GDAL cannot open it.
    """
    # GDAL reads all arrays of blocks when it opens a file. By these bytes, all blocks lie beyond its end.
    filled = (
        (at, memoryview(_FILLING)[: offset + length - at])
        for offset, length in left_out
        for at in range(offset, offset + length, len(_FILLING))
    )
    return _opened(url, sparse_file(size, itertools.chain(filled, pieces), name=_name(url)), "GTiff")


def open_whole_file(url: str, content: Buffer) -> AbstractContextManager[Any]:
    """Open a file that is in memory as a whole, in one of the formats of `WHOLE_FILE_DRIVERS`.

    Parameters and errors are as for `open_pieces`. The file has the name that the URL ends with.
    """
    return _opened(url, whole_file(_name(url), content), list(WHOLE_FILE_DRIVERS))


def _name(url: str) -> str:
    """Return a URL's file name, without the query. GDAL's errors name it."""
    return PurePosixPath(urlsplit(url).path).name or "file"


@contextlib.contextmanager
def pinned_options() -> Iterator[None]:
    """Set the options for reading pixels inside the block, in this thread, whatever the user has set."""
    if getattr(_thread, "is_pinned", False):
        yield
        return
    with contextlib.ExitStack() as stack:
        if libgdal.why_not_scoped() is not None:
            stack.enter_context(rasterio.Env(**GDAL_OPTIONS))
        else:
            # those of an Env in the main thread would hold for all threads
            stack.enter_context(rasterio.env.env_ctx_if_needed())
            stack.enter_context(libgdal.options_of_this_thread(GDAL_OPTIONS))
        _thread.is_pinned = True
        try:
            yield
        finally:
            _thread.is_pinned = False


_thread = threading.local()


def warm_up() -> None:
    """Let PROJ open its database for this thread. It takes 10 ms, so it is done while nothing else can be."""
    CRS.from_epsg(4326)


@contextlib.contextmanager
def _opened(url: str, file: AbstractContextManager[str], driver: str | list[str]) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        try:
            with pinned_options():
                dataset = Renamed(url, stack.enter_context(file), driver, sharing=False)
        except (RasterioError, UnicodeError) as error:  # the latter from text in a damaged header
            # the folder in memory means nothing to anybody
            raise RasterioIOError(re.sub(r"/vsi[^' ]*/", "", str(error))) from None
        stack.callback(dataset.close)
        yield dataset
