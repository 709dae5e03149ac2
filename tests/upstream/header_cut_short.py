"""GDAL takes the part of a header that came before the connection broke for the whole."""

import struct

import rasterio
from server import PLAIN, geotiff, part, serve, tell

content = geotiff()
cut = content.index(struct.pack("<dd", 0.25, 0.25))  # the pixel size: all before it arrives


def answer(request):
    status, headers, body = part(request, content)
    if request.command == "GET":
        return status, headers | {"Content-Length": str(len(body))}, body[:cut]
    return status, headers, body


url, _ = serve(answer)
seen = None
with rasterio.Env(**PLAIN):
    try:
        with rasterio.open(f"{url}/a.tif") as src:
            seen = src.transform
    except rasterio.RasterioIOError as error:
        print(error)
tell(
    f"the file opens, and its transform is {seen and tuple(seen)[:6]}" if seen else "an error",
    "an error: fewer bytes came than Content-Length says",
    is_there=seen is not None and seen.is_identity,
)
