"""The contenders: this package, rasterio with commonly recommended options, async-geotiff, and downloads."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import requests
from rasterio.merge import merge
from targets import HTTP2, STATIC, URLLIB3
from tiles import CORNERS, PIXEL
from workloads import BIG, Workload

import rio_terrascope
from rio_terrascope import worldcover
from rio_terrascope.gdal.options import PATH_OPTIONS, PROCESS_OPTIONS

THREADS = 16
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

    def windows(self, workload: Workload) -> Any:
        """Read windows."""
        return workload.finish(self.stream(workload))

    def stream(self, workload: Workload) -> Iterator[np.ndarray]:
        """Read windows without keeping the pixels."""
        windows = [(self.origin + path, window) for path, window in workload.windows()]
        return rio_terrascope.read_windows(windows)

    def points(self, workload: Workload) -> np.ndarray:
        """Sample points."""
        urls = [self.origin + path for path in workload.paths]
        return rio_terrascope.sample(urls, workload.coordinates()).data

    def overview(self, workload: Workload) -> np.ndarray:
        """Read a whole tile, small."""
        west, north = CORNERS["N00E006"]
        box = (west, north - 3, west + 3, north)
        return rio_terrascope.read_bbox(self.origin + BIG, box, max_size=workload.size)[0]

    def mosaic(self, workload: Workload) -> np.ndarray:
        """Read a box over several tiles."""
        return worldcover.read(workload.box, 2020, origin=self.origin)[0]

    def warm(self, workload: Workload) -> list[np.ndarray]:
        """Read windows with plain rasterio, one after the other."""
        with rasterio.open(self.origin + BIG) as dataset:
            return [dataset.read(window=window) for _, window in workload.windows()]

    def copy(self, workload: Workload) -> list[np.ndarray]:
        """Copy a tile into a file with the command, in this process."""
        from rio_terrascope.cli import terrascope

        west, north = CORNERS["N00E006"]
        box = map(str, (west, north - 3, west + 3, north))
        with tempfile.TemporaryDirectory() as folder:
            command = ["read", self.origin + BIG, "--bbox", *box, "-o", f"{folder}/copy.tif"]
            terrascope(command, standalone_mode=False)
        return []


class Rasterio:
    """Plain rasterio, with the token as a header and a set of recommended options.

    Several files are read in threads, one file in as many `threads` as given, each with its own dataset.
    """

    def __init__(self, origin: str, token: str, options: dict[str, str], threads: int = 1) -> None:
        self.origin, self.threads = origin, threads
        self._options = options | ({"GDAL_HTTP_HEADERS": f"Authorization: Bearer {token}"} if token else {})

    def run(self, workload: Workload) -> Callable[[], Any]:
        """Return the function to time."""
        return lambda: self._in_env(getattr(self, workload.kind), workload)

    def _in_env(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with rasterio.Env(**self._options):
            return function(*arguments)

    def _in_threads(self, function: Callable[..., Any], parts: Iterable[Any]) -> list[Any]:
        with ThreadPoolExecutor(THREADS) as executor:
            return list(executor.map(lambda part: self._in_env(function, part), parts))

    def windows(self, workload: Workload) -> Any:
        """Read windows, those of a file together."""
        windows = workload.windows()
        order = sorted(range(len(windows)), key=lambda number: windows[number][0])
        count = THREADS if len({path for path, _ in windows}) > 1 else self.threads
        found: list[Any] = [None] * len(windows)

        def read(numbers: np.ndarray) -> None:
            with contextlib.ExitStack() as stack:
                last = None
                for number in numbers.tolist():
                    path, window = windows[number]
                    if path != last:
                        dataset, last = stack.enter_context(rasterio.open(self.origin + path)), path
                    found[number] = dataset.read(window=window)

        parts = np.array_split(order, count)
        read(parts[0]) if count == 1 else self._in_threads(read, parts)
        return workload.finish(found)

    def points(self, workload: Workload) -> np.ndarray:
        """Sample points, in threads after sorting them by block."""
        points = workload.coordinates()
        if self.threads == 1:
            return self._sample(points)
        west, north = CORNERS["N00E006"]
        blocks = ((points - (west, north)) * (1, -1) / PIXEL / workload.block).astype(int)
        order = np.lexsort(blocks.T)
        values = np.empty((len(points), 1), np.uint8)
        values[order] = np.concatenate(
            self._in_threads(self._sample, np.array_split(points[order], self.threads))
        )
        return values

    def _sample(self, points: np.ndarray) -> np.ndarray:
        with rasterio.open(self.origin + BIG) as dataset:
            return np.array(list(dataset.sample(points)))

    def overview(self, workload: Workload) -> np.ndarray:
        """Read a whole tile, small."""
        with rasterio.open(self.origin + BIG) as dataset:
            return dataset.read(out_shape=(1, workload.size, workload.size))

    def mosaic(self, workload: Workload) -> np.ndarray:
        """Merge tiles."""
        if self.threads > 1:
            return self.windows(workload)
        paths = [path for path, _ in workload.requests]
        with contextlib.ExitStack() as stack:
            tiles = [stack.enter_context(rasterio.open(self.origin + path)) for path in paths]
            return merge(tiles, bounds=workload.box)[0]

    warm = windows


class AsyncGeotiff:
    """async-geotiff over obstore, with all reads concurrent."""

    def __init__(self, origin: str, token: str, **client: Any) -> None:
        from async_geotiff import GeoTIFF
        from obstore.store import HTTPStore

        self._geotiff = GeoTIFF
        client |= {
            "default_headers": {"Authorization": f"Bearer {token}"},
            "allow_invalid_certificates": True,
        }
        self._store = HTTPStore(origin, client_options=client)

    def run(self, workload: Workload) -> Callable[[], Any]:
        """Return the function to time."""
        return lambda: asyncio.run(getattr(self, workload.kind)(workload))

    async def _open(self, path: str) -> Any:
        return await self._geotiff.open(path.lstrip("/"), store=self._store)

    async def windows(self, workload: Workload) -> Any:
        """Read windows of one file or of several."""
        from async_geotiff import Window

        paths = {path for path, _ in workload.requests}
        files = {path: asyncio.ensure_future(self._open(path)) for path in paths}

        async def read(path: str, window: tuple[int, int, int, int]) -> np.ndarray:
            return (await (await files[path]).read(window=Window(*window))).data

        return workload.finish(await asyncio.gather(*(read(*request) for request in workload.requests)))

    async def points(self, workload: Workload) -> np.ndarray:
        """Fetch each block that points lie in, once, and pick the values."""
        file = await self._open(BIG)
        west, north = CORNERS["N00E006"]
        columns, rows = ((workload.coordinates() - (west, north)) * (1, -1) / PIXEL).astype(int).T
        block = workload.block
        values = np.empty((workload.points, 1), np.uint8)
        # without a limit, all decoded blocks of a tile would be in memory at once
        limit = asyncio.Semaphore(256)

        async def pick(x: int, y: int) -> None:
            async with limit:
                data = (await file.fetch_tile(x, y)).array.data[0]
                here = np.flatnonzero((columns // block == x) & (rows // block == y))
                values[here, 0] = data[rows[here] - y * block, columns[here] - x * block]

        await asyncio.gather(*(pick(x, y) for x, y in sorted(workload.blocks()[BIG])))
        return values

    async def overview(self, workload: Workload) -> np.ndarray:
        """Read the overview that GDAL would, whole, and take the nearest pixels."""
        level = (await self._open(BIG)).overviews[workload.level]
        data = (await level.read()).data
        at = ((np.arange(workload.size) + 0.5) * level.width / workload.size).astype(int)
        return data[:, at][:, :, at]

    mosaic = windows


class Download:
    """Downloads every file, then reads it from disk."""

    def __init__(self, origin: str, token: str) -> None:
        self.origin, self.token = origin, token

    def run(self, workload: Workload) -> Callable[[], Any]:
        """Return the function to time."""
        paths = sorted({path for path, _ in workload.requests}) or [BIG]

        def work() -> Any:
            with tempfile.TemporaryDirectory() as folder:
                with ThreadPoolExecutor(4) as executor:
                    list(executor.map(lambda path: self._download(path, folder), paths))
                return Rasterio(folder, "", {}).run(workload)()

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
    URLLIB3: Ours,
    HTTP2: Ours,
    "async-geotiff + obstore": AsyncGeotiff,
    "async-geotiff, HTTP/2": lambda origin, token: AsyncGeotiff(origin, token, http1_only=False),
    "threads, EMPTY_DIR": lambda origin, token: Rasterio(origin, token, EMPTY_DIR, THREADS),
    "plain Env(GDAL_HTTP_HEADERS)": lambda origin, token: Rasterio(origin, token, {}),
    "leafmap's option": lambda origin, token: Rasterio(origin, token, EMPTY_DIR),
    "odc-stac's options": lambda origin, token: Rasterio(origin, token, ODC_STAC),
    "TiTiler's options": lambda origin, token: Rasterio(origin, token, TITILER),
    "download first": Download,
    # shows the cost of the login: all else is equal, only the token reaches GDAL in another way
    STATIC: lambda origin, token: Rasterio(origin, token, PATH_OPTIONS | PROCESS_OPTIONS),
}
