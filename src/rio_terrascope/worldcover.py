"""ESA WorldCover, the world's land cover at 10 m: its tiles, its legend, and boxes of any extent.

Each tile covers 3 x 3 degrees and is named after its south-west corner. The open sea has no tiles.
"""

import itertools
import math
import operator
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.errors import RasterioIOError
from rasterio.transform import Affine
from rasterio.windows import Window

from rio_terrascope.env import active_env
from rio_terrascope.gdal import cache, messages
from rio_terrascope.reading.bbox import check_resolution
from rio_terrascope.reading.engine import Engine, Progress
from rio_terrascope.reading.grid import ON_THE_EDGE, check_world_bbox, cuts, floor_pixel
from rio_terrascope.reading.jobs import Ready, Request
from rio_terrascope.reading.parts import Part
from rio_terrascope.settings import Settings

VERSIONS = {2020: "v100", 2021: "v200"}
"""The year of each map, and its version."""

DEGREES = 3
"""Width and height of a tile."""

PIXELS = 36000
"""Width and height of a tile in pixels, 12,000 to a degree."""

NODATA = 0


@dataclass(frozen=True)
class LandCover:
    """A class of the legend."""

    value: int
    label: str
    color: tuple[int, int, int]  # red, green, blue


LEGEND = (
    LandCover(10, "Tree cover", (0, 100, 0)),
    LandCover(20, "Shrubland", (255, 187, 34)),
    LandCover(30, "Grassland", (255, 255, 76)),
    LandCover(40, "Cropland", (240, 150, 255)),
    LandCover(50, "Built-up", (250, 0, 0)),
    LandCover(60, "Bare/sparse vegetation", (180, 180, 180)),
    LandCover(70, "Snow and ice", (240, 240, 240)),
    LandCover(80, "Permanent water bodies", (0, 100, 200)),
    LandCover(90, "Herbaceous wetland", (0, 150, 160)),
    LandCover(95, "Mangroves", (0, 207, 117)),
    LandCover(100, "Moss and lichen", (250, 230, 160)),
)
"""The classes of the map, with the map's own colours."""


def attribution(year: int) -> str:
    """Return the credit line that the licence, CC-BY 4.0, requires with the map."""
    check_year(year)
    return (
        f"© ESA WorldCover project {year} / Contains modified Copernicus Sentinel data ({year}) "
        "processed by ESA WorldCover consortium"
    )


@dataclass(frozen=True)
class Tile:
    """A tile of the grid. If it holds only sea, there is no file at its URL.

    Parameters
    ----------
    year : int
        2020 or 2021.
    west, south : int
        The south-west corner in degrees, multiples of 3.
    origin : str
        The server, as ``scheme://host[:port]``.
    """

    year: int
    west: int
    south: int
    origin: str

    @property
    def name(self) -> str:
        """The south-west corner, as in the file's name: N00E006 or S03W060."""
        return (
            f"{'S' if self.south < 0 else 'N'}{abs(self.south):02}"
            f"{'W' if self.west < 0 else 'E'}{abs(self.west):03}"
        )

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """West, south, east, north in degrees."""
        return (self.west, self.south, self.west + DEGREES, self.south + DEGREES)

    @property
    def url(self) -> str:
        """The URL of the tile's file."""
        version = VERSIONS[self.year]
        product = f"ESA_WORLDCOVER_10M_{self.year}_{version.upper()}"
        stem = f"ESA_WorldCover_10m_{self.year}_{version}_{self.name}_Map"
        return f"{self.origin}/download/WORLDCOVER/{product}/MAP/{stem}/{stem}.tif"


def tiles(bbox: Sequence[float], year: int, *, origin: str | None = None) -> list[Tile]:
    """List the tiles that overlap a box, including those that hold only sea.

    Parameters
    ----------
    bbox : sequence of float
        West, south, east, north in degrees: the half-open box [west, east) x [south, north). If
        west > east, the box crosses the antimeridian.
    year : int
        2020 or 2021.
    origin : str, optional
        The server. Default: the first origin of the active `terrascope_env`, otherwise of the settings.

    Returns
    -------
    list of Tile
        From north to south, and in each row from the box's west to its east.

    Raises
    ------
    ValueError
        If the box is invalid, or there is no map of the year.

    Examples
    --------
    >>> [tile.name for tile in tiles((5, -1, 7, 1), 2021)]
    ['N00E003', 'N00E006', 'S03E003', 'S03E006']
    """
    check_year(year)
    origin = origin or _origin()
    found = (Tile(year, *corner, origin) for _, _, corner in _Grid.of(bbox, 1).tiles())
    return list(dict.fromkeys(found))  # both ends of a box around the world may lie in the same tile


def read(
    bbox: Sequence[float],
    year: int,
    resolution: float | None = None,
    *,
    origin: str | None = None,
    max_workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """Read the map of a box, from all tiles that overlap it.

    A tile that the server does not have (404) is sea. Its pixels become nodata. It is not requested again
    until the block is left or the login is refreshed, if another tile of the same call could be read: a
    server may also answer 404 if the login is not in order. See `forget_sea`.

    Parameters
    ----------
    bbox : sequence of float
        West, south, east, north in degrees. Every pixel that overlaps the half-open box is read. If
        west > east, the box crosses the antimeridian.
    year : int
        2020 or 2021.
    resolution : float, optional
        The largest pixel size in degrees. Default: 1/12000, the map's own. So that no pixel lies across
        two tiles, the size becomes 1/12000 times the largest divisor of 36000 that this allows. The
        pixels of all boxes lie on one grid; the array covers the box and up to one pixel more at each
        edge.
    origin : str, optional
        As in `tiles`.
    max_workers : int, optional
        As in `read_windows`.
    progress : callable, optional
        Called with the number of tiles done and the total.

    Returns
    -------
    array : ndarray of uint8, shape (1, rows, cols)
        Values of `LEGEND`, or 0 for nodata. Coarser pixels are the nearest ones of the next finer overview.
    profile : dict
        A profile to write the array with. Its longitudes continue above 180 beyond the antimeridian.

    Raises
    ------
    ValueError
        If an argument is invalid.
    AccessDeniedError
        If a tile is refused.
    rasterio.errors.RasterioIOError
        If a tile cannot be read for another reason than a 404. The message begins with the tile's URL.

    Examples
    --------
    >>> with terrascope_env():  # doctest: +SKIP
    ...     land_cover, profile = read((5.5, -0.5, 8, 2), 2021, resolution=0.001)
    """
    grid = _checked_grid(bbox, year, resolution)
    array = np.full((1, grid.rows, grid.columns), NODATA, np.uint8)
    windows = [window for window, _, _ in grid.tiles()]
    parts = read_parts(bbox, year, windows, resolution, origin=origin, max_workers=max_workers)
    for done, (window, pixels) in enumerate(parts, start=1):
        array[0][window.toslices()] = pixels
        if progress is not None:
            progress(done, len(windows))
    return array, grid.profile


def read_parts(
    bbox: Sequence[float],
    year: int,
    windows: Iterable[Window],
    resolution: float | None = None,
    *,
    origin: str | None = None,
    max_workers: int | None = None,
) -> Iterator[tuple[Window, npt.NDArray[np.uint8]]]:
    """Read the map of a box in parts, so that it may be larger than memory.

    Parameters
    ----------
    windows : iterable of rasterio.windows.Window
        Parts of the array that `read` would return; no two of them are the same.
    bbox, year, resolution, origin, max_workers
        As in `read`; so are the errors.

    Yields
    ------
    window : rasterio.windows.Window
        The windows, in their order.
    pixels : ndarray of uint8, shape (rows, columns)
    """
    grid = _checked_grid(bbox, year, resolution)
    origin = origin or _origin()
    absent = _Absent()
    requests = (
        _request(Tile(year, *corner, origin), window, inside, source, grid.factor, absent)
        for window in windows
        for inside, source, corner in grid.part(window).tiles()
    )
    with Engine(max_workers) as engine:
        for window, results in itertools.groupby(engine.run(requests), key=operator.itemgetter(0)):
            pixels = np.full((window.height, window.width), NODATA, np.uint8)
            for _, inside, found in results:
                if found is not None:
                    pixels[inside.toslices()] = found
            yield window, pixels
    absent.remember()


def grid_profile(bbox: Sequence[float], resolution: float | None = None) -> dict[str, Any]:
    """Return the profile that `read` returns for a box, without reading."""
    return _Grid.of(bbox, _factor(resolution)).profile


def known_sea() -> frozenset[str]:
    """Return the URLs that were requested and have no tile, since the block was entered or refreshed."""
    with _lock:
        return frozenset(_sea)


def forget_sea() -> None:
    """Forget which tiles the server does not have, so that the next read requests them again."""
    with _lock:
        _sea.clear()


_sea: dict[str, bool] = {}  # URLs that answered 404; True: not to be requested again
_times_forgotten = 0  # how often all of an origin was forgotten: a block was entered, left or refreshed
_lock = threading.Lock()


def _forget(path: str) -> None:
    """Forget a URL, or all that begin with it, because GDAL's cache has been cleared for it."""
    global _times_forgotten
    start = path.removeprefix("/vsicurl/")
    with _lock:
        if not start.endswith(".tif"):
            _times_forgotten += 1
        for url in [url for url in _sea if url.startswith(start)]:
            del _sea[url]


cache.on_forget(_forget)


class _Absent:
    """The tiles that answered 404 during one call of `read`.

    Attributes
    ----------
    proven : bool
        Whether another tile could be read, which shows that the login is in order.
    """

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.proven = False
        self._times_forgotten = _times_forgotten

    def remember(self) -> None:
        """Keep the tiles for later calls, unless the login has changed since this call began."""
        with _lock:
            if self._times_forgotten == _times_forgotten:
                for url in self.urls:
                    _sea[url] = self.proven or _sea.get(url, False)


_Found = tuple[Window, Window, npt.NDArray[np.uint8] | None]
"""A window of the array, a window inside it, and the pixels of the latter; None if there is no tile."""


def _request(
    tile: Tile, window: Window, inside: Window, source: Window, factor: int, absent: _Absent
) -> Request[_Found] | Ready[_Found]:
    """Return what to read of a tile, or that there is nothing to read."""
    nothing = (window, inside, None)
    with _lock:
        if _sea.get(tile.url):
            absent.urls.append(tile.url)
            return Ready(nothing)
    times = _times_forgotten

    def part(dataset: Any) -> Part:
        if (dataset.width, dataset.height) != (PIXELS, PIXELS):
            raise RasterioIOError(
                f"the file has {dataset.width} x {dataset.height} pixels; a tile has {PIXELS} x {PIXELS}."
            )
        return Part(source, (source.height // factor, source.width // factor), [1])

    def read(part: Part, dataset: Any) -> _Found:
        absent.proven = True
        return window, inside, part.read(dataset)[0]

    def otherwise(error: Exception) -> _Found:
        if messages.http_status(error) != 404:
            raise error
        if _times_forgotten != times:  # the server may have answered to a login that is over
            with Engine() as engine:
                return next(engine.run([_request(tile, window, inside, source, factor, absent)]))
        absent.urls.append(tile.url)
        return nothing

    return Request(tile.url, part, read, otherwise)


@dataclass(frozen=True)
class _Grid:
    """The pixels of a box, numbered on one grid for the whole world.

    Columns are counted eastwards from longitude 0, and the count continues beyond the antimeridian. Rows
    are counted southwards from the equator, so those in the north are negative.
    """

    left: int
    top: int
    columns: int
    rows: int
    factor: int  # the size of a pixel in native pixels, along each axis

    @classmethod
    def of(cls, bbox: Sequence[float], factor: int) -> "_Grid":
        """Find the pixels that overlap a box."""
        west, south, east, north = check_world_bbox(bbox)
        if west > east:
            east += 360
        size = factor * DEGREES / PIXELS
        left, top = (int(floor_pixel(edge / size)) for edge in (west, -north))
        right, bottom = (int(-floor_pixel(-edge / size)) for edge in (east, -south))
        return cls(left, top, right - left, bottom - top, factor)

    @property
    def per_tile(self) -> int:
        return PIXELS // self.factor

    @property
    def profile(self) -> dict[str, Any]:
        size = self.factor * DEGREES / PIXELS
        # divide last: 1/12000 is not exact in floating point, and its error must not add up
        west, north = (count * self.factor * DEGREES / PIXELS for count in (self.left, -self.top))
        return {
            "driver": "GTiff",
            "dtype": "uint8",
            "nodata": NODATA,
            "width": self.columns,
            "height": self.rows,
            "count": 1,
            "crs": CRS.from_epsg(4326),
            "transform": Affine(size, 0.0, west, 0.0, -size, north),
            "compress": "deflate",
            "tiled": True,
            "blockxsize": 512,
            "blockysize": 512,
        }

    def part(self, window: Window) -> "_Grid":
        """Return the pixels of a window as a grid of their own."""
        left, top = self.left + window.col_off, self.top + window.row_off
        return _Grid(left, top, window.width, window.height, self.factor)

    def tiles(self) -> Iterator[tuple[Window, Window, tuple[int, int]]]:
        """Yield for each tile its window in the grid, its window in the tile, and its west and south."""
        size = self.per_tile
        for top, bottom in cuts(self.top, self.rows, size):
            for left, right in cuts(self.left, self.columns, size):
                height, width = bottom - top, right - left
                inside = Window(left - self.left, top - self.top, width, height)
                source = (left % size, top % size, width, height)
                corner = (_wrapped(left // size * DEGREES), -(top // size + 1) * DEGREES)
                yield inside, Window(*(pixels * self.factor for pixels in source)), corner


def _factor(resolution: float | None) -> int:
    """Return how many native pixels a pixel is wide: a divisor of a tile's width."""
    if resolution is None:
        return 1
    most = min(PIXELS, math.floor(resolution * PIXELS / DEGREES + ON_THE_EDGE))
    return next((factor for factor in range(most, 0, -1) if PIXELS % factor == 0), 1)


def _wrapped(west: int) -> int:
    return (west + 180) % 360 - 180


def _checked_grid(bbox: Sequence[float], year: int, resolution: float | None) -> _Grid:
    check_year(year)
    check_resolution(resolution)
    return _Grid.of(bbox, _factor(resolution))


def _origin() -> str:
    env = active_env()
    return (env.settings if env else Settings.from_environ()).origins[0]


def check_year(year: int) -> None:
    """Raise ValueError if there is no map of the year."""
    if year not in VERSIONS:
        raise ValueError(f"there is no WorldCover map of {year!r}; choose 2020 or 2021.")
