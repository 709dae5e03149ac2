"""GDAL remembers that a URL could not be opened, and does not ask again."""

import itertools

import rasterio
from server import PLAIN, geotiff, part, serve, tell

content = geotiff()
number = itertools.count()
url, requests = serve(lambda request: part(request, content) if next(number) else (401, {}, b""))

outcomes = []
with rasterio.Env(**PLAIN):
    for _ in range(2):
        try:
            rasterio.open(f"{url}/a.tif").close()
            outcomes.append("opens")
        except rasterio.RasterioIOError as error:
            outcomes.append(f"fails ({error})")
tell(
    f"the first open {outcomes[0]}, the second one {outcomes[1]}; {len(requests())} request(s) in all",
    "the second one asks again, and opens: the answer was a 401, which depends on the credentials",
    is_there=outcomes[1] != "opens",
)
