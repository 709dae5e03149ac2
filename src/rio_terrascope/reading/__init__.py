"""Bulk reading of remote rasters: many windows, points or boxes at once.

Every function takes what `rasterio.open` takes. Protected URLs need a `terrascope_env`; public URLs and
local files do not.

How it works, by the example of ``sample(urls, points)``:

1. `sampling` asks the `engine` for the facts about each file: its transform, its blocks, its bands.
2. `remote` knows nothing of a file yet, so it asks the fetcher for its first 32 KB.
3. `fetching` sends the request over one of the few connections to the origin, with a token that is valid
   now, and checks the answer.
4. `tiff` finds in these bytes where each block lies, and asks for the rest of a long header.
5. `decode` lets GDAL open the header, from memory. `sampling` takes the facts, finds the file, the pixel
   and the block of each point, and requests each block that has points.
6. `blocks` says which bytes of the file that is. `engine` asks for many blocks at once, but not for more
   than its share of the memory.
7. `fetching` joins neighbours to one request, and returns each range when it has come.
8. `decode` lets GDAL open header and blocks, from memory, in a thread. `parts` reads the pixels, `masks`
   says which of them hold data.
9. `sampling` puts the values in their places.
"""

from rio_terrascope.reading.bbox import read_bbox
from rio_terrascope.reading.engine import Progress
from rio_terrascope.reading.grid import block_windows, bounds_window
from rio_terrascope.reading.sampling import sample
from rio_terrascope.reading.windows import read_windows

__all__ = [
    "Progress",
    "block_windows",
    "bounds_window",
    "read_bbox",
    "read_windows",
    "sample",
]
