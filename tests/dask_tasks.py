"""Tasks for Dask workers in tests, in a module that workers can import."""

import os

import numpy as np
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope import TerrascopeError, read_windows, sample, terrascope_env
from rio_terrascope.gdal import cache, libgdal
from rio_terrascope.gdal.options import HEADER_FILE, PATH_OPTIONS, PROCESS_OPTIONS, S3_REDIRECT


def read(url, file, column, row, size=64):
    """Compare a window with the local file, and return the id of the process that read it."""
    window = Window(column, row, size, size)
    with rasterio.open(url) as src, rasterio.open(file) as local:
        np.testing.assert_array_equal(src.read(1, window=window), local.read(1, window=window))
    return os.getpid()


def read_much(url, file):
    """Compare `read_windows` and `sample`, in a terrascope_env without a username, with the local file."""
    windows = [Window(6000, 17000 + 300 * n, 64, 64) for n in range(4)]
    points = [(6.61, 0.19), (6.73, 0.34)]
    with terrascope_env():
        arrays = list(read_windows([(url, window) for window in windows]))
        values = sample(url, points)
    with rasterio.open(file) as local:
        for window, array in zip(windows, arrays, strict=True):
            np.testing.assert_array_equal(np.squeeze(array), local.read(1, window=window))
        np.testing.assert_array_equal(values, np.array(list(local.sample(points))))


def try_plainly(url):
    """Open with plain rasterio, and return "read" or the error."""
    try:
        rasterio.open(url).close()
    except RasterioIOError as error:
        return str(error)
    return "read"


def try_with_recovery(url):
    """Open in an env of the task's own, and return "read" or the error."""
    try:
        with terrascope_env() as env, env.open(url):
            return "read"
    except (TerrascopeError, RasterioIOError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        cache.forget(url)


def options_of(url_prefix):
    """Return the options of this package that are set in the worker's GDAL."""
    options = {
        key: libgdal.get_path_option(url_prefix, key)
        for key in (HEADER_FILE, *PATH_OPTIONS)
        if libgdal.get_path_option(url_prefix, key) is not None
    }
    process = {
        key: libgdal.get_config_option(key)
        for key in (S3_REDIRECT, *PROCESS_OPTIONS)
        if libgdal.get_config_option(key) is not None
    }
    return options | process


def environment():
    return dict(os.environ)


def hold_a_login(address, username, password, settings):  # pragma: no cover - a process of its own
    """Register the plugin as a client, then do nothing until killed."""
    from distributed import Client

    from rio_terrascope.distributed import TerrascopePlugin

    with Client(address) as client:
        client.register_plugin(TerrascopePlugin(username, password, settings=settings))
        print("registered", flush=True)
        input()
