"""Clearing GDAL's cache of files on the network."""

import contextlib

from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.options import vsi_path


def forget(path: str) -> None:
    """Clear GDAL's cache for all files whose URL or ``/vsicurl/...`` path begins with `path`.

    The cache holds bytes, sizes, and failures: GDAL answers a second open with the remembered 401.
    """
    if libgdal.why_not_scoped() is None:
        libgdal.load().VSICurlPartialClearCache(vsi_path(path).encode())
    else:
        with contextlib.suppress(ImportError):  # rasterio 1.5 and later
            from rasterio.cache import invalidate

            invalidate(path)


def forget_all() -> None:
    """Clear all of GDAL's cache of files on the network, and close its connections."""
    libgdal.load().VSICurlClearCache()
