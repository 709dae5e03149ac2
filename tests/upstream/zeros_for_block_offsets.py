"""GDAL returns zeros, without an error, if it cannot read the block offsets that it loads lazily."""

import rasterio
from rasterio.windows import Window
from server import PLAIN, first_byte, geotiff, part, serve, tell

content = geotiff(size=2048, block=16)  # 16384 blocks: 64 KB of offsets, and 64 KB of sizes


def answer(request):
    first = first_byte(request)
    if request.command == "GET" and first and 16384 <= first < 131072:
        return 403, {}, b""
    return part(request, content)


url, _ = serve(answer)
seen = "an error"
with rasterio.Env(**PLAIN), rasterio.open(f"{url}/a.tif") as src:
    try:
        seen = sorted(set(src.read(1, window=Window(1000, 1500, 300, 300)).flat))
    except rasterio.RasterioIOError as error:
        print(error)
tell(
    f"a window over blocks whose offsets cannot be read has the values {seen}; the file has ones",
    "an error",
    is_there=seen == [0],
)
