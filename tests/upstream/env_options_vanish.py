"""Options of a rasterio.Env vanish for moments in other threads, when the main thread leaves an inner Env."""

import sys
import threading
import time

import rasterio
from rasterio.env import get_gdal_config
from server import tell

sys.setswitchinterval(1e-6)
seen = {"there": 0, "gone": 0}
ended = threading.Event()


def look():
    while not ended.is_set():
        seen["gone" if get_gdal_config("GDAL_HTTP_USERAGENT") is None else "there"] += 1


with rasterio.Env(GDAL_HTTP_USERAGENT="mine"):
    thread = threading.Thread(target=look)
    thread.start()
    while sum(seen.values()) < 1000:
        time.sleep(0.01)
    assert not seen["gone"], "as long as the main thread does nothing"
    deadline = time.monotonic() + 20
    while not seen["gone"] and time.monotonic() < deadline:
        with rasterio.Env():  # as each rasterio.open does
            pass
    ended.set()
    thread.join()
tell(
    f"another thread looked {sum(seen.values())} times; the option was gone {seen['gone']} time(s)",
    "it is always there: an inner Env must put back what it has changed, and nothing else",
    is_there=seen["gone"] > 0,
)
