"""Reading at the speed of the network: many windows, points and boxes of remote rasters at once.

All of it works on whatever `rasterio.open` takes: URLs inside a `terrascope_env`, open URLs and local
files anywhere.
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
