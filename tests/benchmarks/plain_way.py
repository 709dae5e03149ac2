"""Compare a token pasted into GDAL_HTTP_HEADERS with `terrascope_env`, and print the table that README shows.

Run it from the project's root::

    python tests/benchmarks/plain_way.py
"""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope import TokenSource, terrascope_env
from rio_terrascope.gdal import cache
from rio_terrascope.sandbox import Sandbox
from rio_terrascope.sandbox.tile import write_tile

LIFETIME = 2.0  # seconds
Way = Callable[[], AbstractContextManager[object]]


def pasted() -> AbstractContextManager[object]:
    """The usual way: a token, fetched once, as an option."""
    token = TokenSource().get()
    return rasterio.Env(GDAL_HTTP_HEADERS=f"Authorization: Bearer {token.access_token}")


def windows() -> list[Window]:
    """Windows over land, each in a block of its own."""
    rows, cols = range(31000, 36000, 1024), range(4700, 9900, 1024)
    return [Window(col, row, 256, 256) for row in rows for col in cols]


def long_work(server: Sandbox, way: Way) -> str:
    """Read one dataset over four token lifetimes."""
    with way(), rasterio.open(server.url()) as src:
        try:
            for window in windows():
                src.read(1, window=window)
                cache.forget(server.url())  # so that the next window is fetched from the server
                time.sleep(4.5 * LIFETIME / len(windows()))
        except RasterioIOError:
            return "fails once the token has expired"
    return "no failed read"


def another_host(server: Sandbox, way: Way) -> str:
    """Read a file on a third party's server."""
    with way():
        rasterio.open(server.other_url()).close()
    got = any(request.authorization != "none" for request in server.requests("other"))
    return "receives the token" if got else "receives no token"


def after_a_401(server: Sandbox, way: Way) -> str:
    """Open a URL that was refused before the login."""
    with contextlib.suppress(RasterioIOError):
        rasterio.open(server.url())
    server.clear()
    with way():
        try:
            rasterio.open(server.url()).close()
        except RasterioIOError:
            return f"fails again, after {len(server.requests('data'))} requests"
    return "opens"


def busy_threads(server: Sandbox, way: Way) -> str:
    """Open 400 files in four threads while the main thread opens a local file in a loop."""
    failed = []

    def work(start: int) -> None:
        for number in range(start, 400, 4):
            try:
                rasterio.open(f"{server.url()}?{number}").close()
            except RasterioIOError:
                failed.append(number)

    with way():
        threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            rasterio.open(server.file()).close()
    return f"{len(failed)} fail"


def one_window(server: Sandbox, way: Way) -> str:
    """Open and read one window."""
    with way(), rasterio.open(server.url()) as src:
        src.read(1, window=Window(6656, 33280, 512, 512))
    return f"{len(server.requests('data'))} requests"


ROWS = (
    ("one dataset, read over four token lifetimes", long_work, LIFETIME),
    ("another server that is read in the same block", another_host, 300.0),
    ("a URL that answered 401 before the login", after_a_401, 300.0),
    ("400 opens in 4 threads, the main thread busy", busy_threads, 300.0),
    ("open and read one 512 x 512 window", one_window, 300.0),
)


def table(tiles: list[Path]) -> list[str]:
    """Measure each row in both ways, and return the lines of a Markdown table."""
    lines = ["| | a token in `GDAL_HTTP_HEADERS` | `terrascope_env()` |", "| --- | --- | --- |"]
    for label, measure, lifetime in ROWS:
        cells = []
        for way in (pasted, terrascope_env):
            with Sandbox(tiles=tiles, token_lifetime=lifetime) as server:
                os.environ.update(server.environ)
                cells.append(measure(server, way))
        lines.append(f"| {label} | {cells[0]} | {cells[1]} |")
    return lines


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        tile = Path(folder) / "ESA_WorldCover_10m_2020_v100_N00E006_Map.tif"
        write_tile(tile)
        print("\n".join(table([tile])))
