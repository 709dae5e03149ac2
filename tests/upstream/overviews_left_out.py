"""GDAL leaves out an overview whose directory cannot be read, without an error."""

import rasterio
from server import PLAIN, first_byte, geotiff, part, serve, tell

content = geotiff(size=2048, overviews=(2, 4))


def answer(request):
    if request.command == "GET" and (first_byte(request) or 0) > 16384:
        return 403, {}, b""
    return part(request, content)


url, _ = serve(answer)
seen = None
with rasterio.Env(**PLAIN), rasterio.open(f"{url}/a.tif") as src:
    try:
        seen = src.overviews(1)
    except rasterio.RasterioIOError as error:
        print(error)
tell(
    f"the overviews are {seen}; the file has [2, 4]",
    "an error, as a decimated read of the full resolution has other pixels",
    is_there=seen == [],
)
