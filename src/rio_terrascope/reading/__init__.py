"""Bulk reading of remote rasters: many windows, points or boxes at once.

Every function takes what `rasterio.open` takes. Protected URLs need a `terrascope_env`; public URLs and
local files do not.
"""

from rio_terrascope.reading.bbox import read_bbox
from rio_terrascope.reading.grid import block_windows, bounds_window
from rio_terrascope.reading.sampling import sample
from rio_terrascope.reading.windows import read_windows
from rio_terrascope.reading.workers import MAX_WORKERS, Progress

__all__ = [
    "MAX_WORKERS",
    "Progress",
    "block_windows",
    "bounds_window",
    "read_bbox",
    "read_windows",
    "sample",
]
