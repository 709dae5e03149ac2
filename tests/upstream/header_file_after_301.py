"""GDAL sends the lines of GDAL_HTTP_HEADER_FILE to the host that a 301 leads to."""

import tempfile

import rasterio
from server import PLAIN, geotiff, part, serve, tell

content = geotiff()
other, others_requests = serve(lambda request: part(request, content))
url, _ = serve(lambda request: (301, {"Location": f"{other}{request.path}"}, b""))

with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    file.write("Authorization: Bearer secret\n")
    file.flush()
    with rasterio.Env(GDAL_HTTP_HEADER_FILE=file.name, **PLAIN), rasterio.open(f"{url}/a.tif") as src:
        src.read(1)

requests = others_requests()
leaked = [request for request in requests if request[3]]
tell(
    f"{len(leaked)} of {len(requests)} requests to the other host carry the Authorization line",
    "none, as CPL_VSIL_CURL_AUTHORIZATION_HEADER_ALLOWED_IF_REDIRECT (IF_SAME_HOST) says",
    is_there=bool(leaked),
)
