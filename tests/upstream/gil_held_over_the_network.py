"""rasterio holds the GIL while `overviews`, `mask_flag_enums` and others make GDAL read from the network.

If another thread is fetching the same bytes, GDAL waits for it. If that thread has a warning to report,
rasterio's error handler waits for the GIL. Then the process stands still for ever.
"""

import threading
import time

import rasterio
from server import PLAIN, first_byte, geotiff, part, serve, tell

PAUSE = 1.0
content = geotiff(size=2048, overviews=(2, 4))


def answer(request):
    if request.command == "GET" and (first_byte(request) or 0) > 16384:
        time.sleep(PAUSE)
    return part(request, content)


url, _ = serve(answer)
ticks = 0
ended = threading.Event()


def count():
    global ticks
    while not ended.wait(0.01):
        ticks += 1


thread = threading.Thread(target=count)
thread.start()
with rasterio.Env(**PLAIN), rasterio.open(f"{url}/a.tif") as src:
    before, began = ticks, time.monotonic()
    src.overviews(1)
    counted, took = ticks - before, time.monotonic() - began
ended.set()
thread.join()
tell(
    f"overviews() took {took:.1f} s, in which another thread counted to {counted}, not {took * 100:.0f}",
    "the other thread goes on: `with nogil` around GDALGetOverviewCount and GDALGetMaskFlags",
    is_there=took >= PAUSE and counted < 10 * took,
)
