"""Open and read a file while its server hangs: python reading_while_it_hangs.py FILE WAY SECONDS.

A thread reads. When its request hangs, this thread must be able to go on: it ends the hanging request. If it
cannot, because the other one holds the GIL, a watch without the GIL prints all stacks and ends the process
after some seconds.
"""

import contextlib
import faulthandler
import os
import sys
import threading
import warnings

import rasterio
from rasterio.errors import RasterioIOError

from rio_terrascope import read_windows, terrascope_env
from rio_terrascope.env import active_env
from rio_terrascope.sandbox import Sandbox

WINDOW = rasterio.windows.Window(1000, 1000, 300, 300)
FACTS = (
    "profile",
    "mask_flag_enums",
    "descriptions",
    "offsets",
    "scales",
    "units",
    "colorinterp",
    "gcps",
    "rpcs",
    "subdatasets",
)


def facts(dataset):
    for name in FACTS:
        getattr(dataset, name)
    dataset.overviews(1)
    dataset.colormap(1)
    dataset.tags()
    dataset.tags(1)
    dataset.tag_namespaces()
    dataset.block_size(1, 0, 0)


def while_each_request_hangs(read, *, skip=0):
    """Call `read` in a thread: the first time its first request hangs, then the second one, and so on."""
    while True:
        active_env().forget()
        server.clear()
        server.hang(times=None, skip=skip)
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        while thread.is_alive() and len(server.requests("data")) <= skip:
            thread.join(0.01)
        hung = thread.is_alive()
        server.heal()  # resets the request that hangs
        thread.join()
        if not hung:
            return
        skip += 1


def while_it_hangs(read):
    """Call `read`, which needs no request, while every request would hang."""
    active_env().forget()
    server.hang(times=None)
    read()
    server.heal()


def opened(**options):
    with contextlib.suppress(RasterioIOError):
        active_env().open(url, **options).close()


def with_sidecars():
    """A user may let GDAL look for sidecar files."""
    with terrascope_env(GDAL_DISABLE_READDIR_ON_OPEN=False, GDAL_HTTP_LOW_SPEED_TIME=1000):
        while_each_request_hangs(opened, skip=1)


def facts_of(opener):
    with opener(url) as dataset:
        while_it_hangs(lambda: facts(dataset))


def window_read():
    with active_env().open(url) as dataset:

        def read():
            with contextlib.suppress(RasterioIOError):
                dataset.read(1, window=WINDOW)

        while_each_request_hangs(read)


def in_bulk():
    def read():
        with contextlib.suppress(RasterioIOError):
            list(read_windows([(url, WINDOW)]))

    while_each_request_hangs(read)


WAYS = {
    "open": lambda: while_each_request_hangs(opened),
    "open an overview": lambda: while_each_request_hangs(lambda: opened(OVERVIEW_LEVEL=1)),
    "open with sidecars": with_sidecars,
    "read": window_read,
    "facts": lambda: facts_of(active_env().open),
    "facts, plain": lambda: facts_of(rasterio.open),
    "read_windows": in_bulk,
}

with warnings.catch_warnings(), Sandbox(tiles=[sys.argv[1]]) as server:
    warnings.simplefilter("ignore")
    os.environ.update(server.environ)
    url = server.url()
    with terrascope_env(GDAL_HTTP_LOW_SPEED_TIME=1000, GDAL_HTTP_RETRY_DELAY=0.01) as env:
        env.open(url).close()
        faulthandler.dump_traceback_later(float(sys.argv[3]), exit=True)
        WAYS[sys.argv[2]]()
