"""WorldCover over many tiles, written into one file in as little memory as you like."""

import os
from collections.abc import Sequence

from rasterio.windows import Window
from rasterio.windows import bounds as bounds_of

from rio_terrascope import worldcover
from rio_terrascope.analysis.cog import cog, write_checked
from rio_terrascope.analysis.pieces import BYTES_AT_ONCE
from rio_terrascope.reading import Progress, block_windows

_STEP = 1024  # rows, a tile's blocks


def write_worldcover(
    bbox: Sequence[float],
    year: int,
    path: str | os.PathLike[str],
    *,
    resolution: float | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the map of a box as a Cloud-Optimized GeoTIFF, with its colours and credits.

    Parameters
    ----------
    bbox, year, resolution
        As of `worldcover.read`, which reads it, a part at a time.
    path : path-like
    progress : callable, optional
        Called with the number of pixels written, and of all.

    Raises
    ------
    ValueError, AccessDeniedError, rasterio.errors.RasterioIOError
        As `worldcover.read` does.
    """
    profile = worldcover.grid_profile(bbox, resolution)
    height, width, transform = profile["height"], profile["width"], profile["transform"]
    size = abs(transform.e)
    blocks = max(1, BYTES_AT_ONCE // _STEP**2)
    across = max(1, min(blocks, -(-width // _STEP)))
    done = 0
    with cog(
        path,
        height=height,
        width=width,
        count=1,
        dtype=profile["dtype"],
        crs=profile["crs"],
        transform=transform,
        nodata=profile["nodata"],
    ) as out:
        # without which 0 would be drawn black where nodata is not looked at
        colours = {entry.value: (*entry.color, 255) for entry in worldcover.LEGEND}
        out.write_colormap(1, {worldcover.NODATA: (0, 0, 0, 0)} | colours)
        out.update_tags(**_tags(year))
        for window in block_windows(
            Window(0, 0, width, height), (_STEP, _STEP), blocks=(max(1, blocks // across), across)
        ):
            west, south, east, north = bounds_of(window, transform)
            # beyond the antimeridian the grid goes on above 180
            if west > 180 - size / 2:
                west -= 360
            if east > 180 + size / 2:
                east -= 360
            box = (max(-180.0, west), max(-90.0, south), min(180.0, east), min(90.0, north))
            pixels, _ = worldcover.read(box, year, resolution)
            write_checked(out, path, pixels, window)
            done += window.width * window.height
            if progress is not None:
                progress(done, width * height)


def _tags(year: int) -> dict[str, str]:
    return {
        "title": f"ESA WorldCover product at 10m resolution for year {year}",
        "copyright": worldcover.attribution(year).removeprefix("© "),
        "license": "CC-BY 4.0 - https://creativecommons.org/licenses/by/4.0/",
        "legend": "\n".join(f"{entry.value:<3} {entry.label}" for entry in worldcover.LEGEND),
        "reference": "https://esa-worldcover.org",
        "time_start": f"{year}-01-01T00:00:00Z",
        "time_end": f"{year}-12-31T23:59:59Z",
    }
