"""The contenders: this package, rasterio with commonly recommended options, async-geotiff, and downloads."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import requests
from rasterio.merge import merge
from rasterio.windows import Window, from_bounds
from tiles import CORNERS, SIZE
from workloads import Workload

import rio_terrascope
from rio_terrascope import worldcover
from rio_terrascope.gdal.options import PATH_OPTIONS, PROCESS_OPTIONS

EMPTY_DIR = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
ODC_STAC = EMPTY_DIR | {"GDAL_HTTP_MAX_RETRY": "10", "GDAL_HTTP_RETRY_DELAY": "0.5"}
TITILER = EMPTY_DIR | {
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "2",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": "5000000",
}


class Ours:
    """This package's functions inside a `terrascope_env`."""

    def __init__(self, origin: str, token: str) -> None:
        self.origin = origin

    def run(self, workload: Workload) -> Callable[[], Any]:
        """Enter the env and return the function to time."""
        rio_terrascope.login()
        return lambda: getattr(self, workload.kind)(workload)

    def windows(self, workload: Workload) -> list[np.ndarray]:
        """Read windows; a single one with rasterio, as users do."""
        windows = [(self.origin + path, window) for path, window in workload.windows()]
        if len(windows) > 1:
            return list(rio_terrascope.read_windows(windows))
        with rasterio.open(windows[0][0]) as dataset:
            return [dataset.read(window=windows[0][1])]

    def stream(self, workload: Workload) -> Iterator[np.ndarray]:
        """Read windows without keeping the pixels."""
        windows = [(self.origin + path, window) for path, window in workload.windows()]
        return rio_terrascope.read_windows(windows)

    def points(self, workload: Workload) -> np.ndarray:
        """Sample points."""
        return rio_terrascope.sample(self.origin + workload.path, workload.coordinates()).data

    def overview(self, workload: Workload) -> np.ndarray:
        """Read a whole tile, small."""
        west, north = CORNERS["N00E006"]
        box = (west, north - 3, west + 3, north)
        return rio_terrascope.read_bbox(self.origin + workload.path, box, max_size=workload.size)[0]

    def mosaic(self, workload: Workload) -> np.ndarray:
        """Read a box over several tiles."""
        return worldcover.read(workload.box, 2020, origin=self.origin)[0]

    def warm(self, workload: Workload) -> list[np.ndarray]:
        """Read windows with plain rasterio, one after the other."""
        return _one_by_one(self.origin, workload)


class Rasterio:
    """Plain rasterio, with the token as a header and a set of recommended options."""

    def __init__(self, origin: str, token: str, options: dict[str, str], threads: int = 1) -> None:
        self.origin, self.token, self.options, self.threads = origin, token, options, threads

    def run(self, workload: Workload) -> Callable[[], Any]:
        """Return the function to time."""

        def work() -> Any:
            with rasterio.Env(GDAL_HTTP_HEADERS=f"Authorization: Bearer {self.token}", **self.options):
                return getattr(self, workload.kind)(workload)

        return work

    def windows(self, workload: Workload) -> list[np.ndarray]:
        """Read windows: sequentially within a file, in threads over several files."""
        if len({path for path, _ in workload.requests}) == 1:
            return _one_by_one(self.origin, workload)
        with ThreadPoolExecutor(20) as executor:
            return list(executor.map(self._window, workload.windows()))

    def _window(self, request: tuple[str, Window]) -> np.ndarray:
        with rasterio.open(self.origin + request[0]) as dataset:
            return dataset.read(window=request[1])

    def points(self, workload: Workload) -> np.ndarray:
        """Sample points, one after the other."""
        with rasterio.open(self.origin + workload.path) as dataset:
            return np.array(list(dataset.sample(workload.coordinates())))

    def overview(self, workload: Workload) -> np.ndarray:
        """Read a whole tile, small."""
        with rasterio.open(self.origin + workload.path) as dataset:
            return dataset.read(out_shape=(1, workload.size, workload.size))

    def mosaic(self, workload: Workload) -> np.ndarray:
        """Merge tiles."""
        with contextlib.ExitStack() as stack:
            tiles = worldcover.tiles(workload.box, 2020, origin=self.origin)
            return merge(
                [stack.enter_context(rasterio.open(tile.url)) for tile in tiles], bounds=workload.box
            )[0]

    warm = windows


class AsyncGeotiff:
    """async-geotiff over obstore, with all reads concurrent."""

    def __init__(self, origin: str, token: str) -> None:
        from async_geotiff import GeoTIFF, Window
        from obstore.store import HTTPStore

        self._geotiff, self._window = GeoTIFF, Window
        self.origin = origin
        headers = {"Authorization": f"Bearer {token}"}
        options = {"default_headers": headers, "allow_invalid_certificates": True, "allow_http": True}
        self._store = HTTPStore(origin, client_options=options)

    def run(self, workload: Workload) -> Callable[[], Any]:
        """Return the function to time."""
        return lambda: asyncio.run(getattr(self, workload.kind)(workload))

    async def _open(self, path: str) -> Any:
        return await self._geotiff.open(path.lstrip("/"), store=self._store)

    async def windows(self, workload: Workload) -> list[np.ndarray]:
        """Read windows of one file or of several."""
        paths = sorted({path for path, _ in workload.requests})
        files = dict(zip(paths, await asyncio.gather(*map(self._open, paths)), strict=True))
        reads = [self._read(files[path], window) for path, window in workload.requests]
        return await asyncio.gather(*reads)

    async def _read(self, file: Any, window: tuple[int, int, int, int]) -> np.ndarray:
        column, row, width, height = window
        return (await file.read(window=self._window(column, row, width, height))).data

    async def points(self, workload: Workload) -> np.ndarray:
        """Fetch each block that points lie in, once, and pick the values."""
        file = await self._open(workload.path)
        rows, columns = _pixels(workload.coordinates())
        block, _ = file.block_shapes[0]
        blocks = sorted(set(zip((columns // block).tolist(), (rows // block).tolist(), strict=True)))
        values = np.empty((workload.points, 1), np.uint8)
        # without a limit, all decoded blocks of a tile would be in memory at once
        limit = asyncio.Semaphore(256)

        async def pick(x: int, y: int) -> None:
            async with limit:
                data = (await file.fetch_tile(x, y)).array.data[0]
                here = np.flatnonzero((columns // block == x) & (rows // block == y))
                values[here, 0] = data[rows[here] - y * block, columns[here] - x * block]

        await asyncio.gather(*(pick(x, y) for x, y in blocks))
        return values

    async def overview(self, workload: Workload) -> np.ndarray:
        """Read the overview that GDAL would, whole, and take the nearest pixels."""
        file = await self._open(workload.path)
        level = max(
            (each for each in file.overviews if each.width >= workload.size), key=lambda each: -each.width
        )
        data = (await level.read()).data
        at = ((np.arange(workload.size) + 0.5) * level.width / workload.size).astype(int)
        return data[:, at][:, :, at]

    async def mosaic(self, workload: Workload) -> np.ndarray:
        """Read each tile's share and paste it."""
        west, south, east, north = workload.box
        size = round((east - west) * SIZE / 3)
        result = np.zeros((1, size, size), np.uint8)

        async def paste(tile: worldcover.Tile) -> None:
            left, bottom, right, top = tile.bounds
            share = (max(west, left), max(south, bottom), min(east, right), min(north, top))
            transform = rasterio.transform.from_origin(left, top, 3 / SIZE, 3 / SIZE)
            window = from_bounds(*share, transform).round()
            file = await self._open(tile.url.removeprefix(self.origin))
            data = await self._read(file, tuple(int(part) for part in window.flatten()))
            row, column = round((north - share[3]) * SIZE / 3), round((share[0] - west) * SIZE / 3)
            result[:, row : row + data.shape[1], column : column + data.shape[2]] = data

        await asyncio.gather(*map(paste, worldcover.tiles(workload.box, 2020, origin=self.origin)))
        return result

    async def warm(self, workload: Workload) -> list[np.ndarray]:
        """Read windows one after the other."""
        file = await self._open(workload.path)
        return [await self._read(file, window) for _, window in workload.requests]


class Download:
    """Downloads every file, then reads it from disk."""

    def __init__(self, origin: str, token: str) -> None:
        self.origin, self.token = origin, token

    def run(self, workload: Workload) -> Callable[[], Any]:
        """Return the function to time."""
        if workload.kind == "mosaic":
            paths = [
                tile.url.removeprefix(self.origin)
                for tile in worldcover.tiles(workload.box, 2020, origin=self.origin)
            ]
        else:
            paths = sorted({path for path, _ in workload.requests}) or [workload.path]

        def work() -> Any:
            with tempfile.TemporaryDirectory() as folder:
                with ThreadPoolExecutor(4) as executor:
                    list(executor.map(lambda path: self._download(path, folder), paths))
                return getattr(Rasterio(folder, "", {}), workload.kind)(workload)

        return work

    def _download(self, path: str, folder: str) -> None:
        target = Path(folder) / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        headers = {"Authorization": f"Bearer {self.token}"}
        with (
            requests.get(self.origin + path, headers=headers, stream=True, timeout=60) as response,
            target.open("wb") as file,
        ):
            response.raise_for_status()
            for chunk in response.iter_content(2**20):
                file.write(chunk)


CONTENDERS: dict[str, Callable[[str, str], Any]] = {
    "rio-terrascope": Ours,
    "plain Env(GDAL_HTTP_HEADERS)": lambda origin, token: Rasterio(origin, token, {}),
    "leafmap's option": lambda origin, token: Rasterio(origin, token, EMPTY_DIR),
    "odc-stac's options": lambda origin, token: Rasterio(origin, token, ODC_STAC),
    "TiTiler's options": lambda origin, token: Rasterio(origin, token, TITILER),
    "async-geotiff + obstore": AsyncGeotiff,
    "download first": Download,
    # shows the cost of the login: all else is equal, only the token reaches GDAL in another way
    "static header": lambda origin, token: Rasterio(origin, token, PATH_OPTIONS | PROCESS_OPTIONS),
}


def _one_by_one(origin: str, workload: Workload) -> list[np.ndarray]:
    windows = workload.windows()
    with rasterio.open(origin + windows[0][0]) as dataset:
        return [dataset.read(window=window) for _, window in windows]


def _pixels(coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    west, north = CORNERS["N00E006"]
    columns = (coordinates[:, 0] - west) * SIZE / 3
    return ((north - coordinates[:, 1]) * SIZE / 3).astype(int), columns.astype(int)
