"""Open and read a file in every way that the package offers, while its server fails.

A process of its own: all that GDAL prints is on its stderr. Each way runs in a new thread, which has no
`rasterio.Env` unless the package enters one: there, GDAL's default is to print.
"""

import os
import sys
import threading

from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope import TerrascopeError, read_bbox, read_windows, sample, terrascope_env, worldcover
from rio_terrascope.sandbox import Sandbox

WINDOW = Window(100, 100, 400, 400)
CRS = "EPSG:32631"
BBOX = (601_000, 5_695_000, 605_000, 5_699_000)
POINTS = [(601_000, 5_699_000), (605_000, 5_695_000)]

# retries without noticeable waits
SOON = {"GDAL_HTTP_MAX_RETRY": 1, "GDAL_HTTP_RETRY_DELAY": 0.01}


def troubles():
    yield lambda: server.fail(503, times=1)
    yield lambda: server.fail(403, times=None, method="GET")
    yield lambda: server.reset(times=None)
    yield lambda: server.truncate(times=None, after=100)
    yield lambda: server.no_ranges()


def ways():
    yield lambda: env.open(url).close()
    yield lambda: list(read_windows([(url, WINDOW)] * 4, max_workers=2))
    yield lambda: read_bbox(url, BBOX, crs=CRS)
    yield lambda: read_bbox(url, BBOX, crs=CRS, max_size=50)
    yield lambda: sample(url, POINTS, crs=CRS, max_workers=2)
    yield lambda: worldcover.read((6.1, 0.1, 6.2, 0.2), 2020, 0.01)


def from_the_start(trouble, way):
    trouble()
    run(way)


def after_the_first_bytes(trouble, way):
    server.drip(0, times=1)
    trouble()
    run(way)


def afresh():
    server.heal()
    server.clear()
    env.forget()
    worldcover.forget_sea()


def run(function):
    """Run a function in a new thread. It must succeed, or raise an error that is meant for the user."""
    surprises = []

    def call():
        try:
            function()
        except (RasterioIOError, TerrascopeError):
            pass
        except BaseException as error:
            surprises.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if surprises:
        raise surprises[0]


with Sandbox(tiles=[sys.argv[1]]) as server:
    os.environ.update(server.environ)
    url = server.url()
    with terrascope_env(**SOON) as env:
        for way in ways():
            for trouble in troubles():
                for begin in (from_the_start, after_the_first_bytes):
                    afresh()
                    begin(trouble, way)
