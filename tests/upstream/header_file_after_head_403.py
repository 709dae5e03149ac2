"""GDAL sends the lines of GDAL_HTTP_HEADER_FILE to a redirect's target that answers HEAD with 403.

Signed URLs that are good for GET only are the ordinary kind.
"""

import tempfile

import rasterio
from server import PLAIN, geotiff, part, serve, tell

content = geotiff()
other, others_requests = serve(
    lambda request: part(request, content) if request.command == "GET" else (403, {}, b"")
)
signed = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=3600&X-Amz-Date=20260101T000000Z&X-Amz-Signature=0"
url, _ = serve(lambda request: (302, {"Location": f"{other}{request.path}?{signed}"}, b""))

with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    file.write("Authorization: Bearer secret\n")
    file.flush()
    options = PLAIN | {"CPL_VSIL_CURL_USE_S3_REDIRECT": "NO"}
    with rasterio.Env(GDAL_HTTP_HEADER_FILE=file.name, **options):
        try:
            with rasterio.open(f"{url}/a.tif") as src:
                src.read(1)
        except rasterio.RasterioIOError as error:
            print(error)

requests = others_requests()
leaked = [request for request in requests if request[3]]
tell(
    f"{len(leaked)} of {len(requests)} requests to the other host carry the Authorization line",
    "none: the retry with GET must leave out what the HEAD has left out",
    is_there=bool(leaked),
)
