"""`sample`: read the values at many points of many files, each block once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

from rio_terrascope.reading.bbox import check_indexes
from rio_terrascope.reading.block_offsets import check_block_offsets
from rio_terrascope.reading.datasets import Datasets
from rio_terrascope.reading.grid import pixels_of, reproject
from rio_terrascope.reading.masks import has_mask, is_valid
from rio_terrascope.reading.workers import Progress, Workers

# Neighbouring blocks are read together, up to this many pixels over all bands. The blocks of a row follow
# each other in a Cloud-Optimized GeoTIFF, so GDAL fetches them in one request.
PIXELS_AT_ONCE = 4 * 1024 * 1024

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def sample(
    urls: str | PathLike[str] | Iterable[str | PathLike[str]],
    coords: Iterable[tuple[float, float]] | npt.NDArray[Any],
    *,
    crs: Any = "EPSG:4326",
    indexes: int | Sequence[int] | None = None,
    max_workers: int | None = None,
    progress: Progress | None = None,
) -> np.ma.MaskedArray[Any, Any]:
    """Read the values of rasters at points.

    The points are sorted by block, and each block is read once, however many points lie in it.

    Parameters
    ----------
    urls : str, path-like, or iterable of them
        One raster or several. A point in several of them gets its value from the first.
    coords : iterable of (x, y), or array of shape (points, 2)
        The points, in any order; x is the longitude or easting.
    crs : CRS-like or None
        The CRS of the points; None stands for the rasters' own.
    indexes : int or sequence of int, optional
        The bands to read, from 1. Default: all bands.
    max_workers : int, optional
        How many reads are made at once, each over its own connection; 32 by default.
    progress : callable, optional
        Called with the number of points done and the total.

    Returns
    -------
    numpy.ma.MaskedArray, shape (points, bands)
        The values, in the rasters' dtype and the order of the points. A value is masked if the raster's
        mask or nodata value says that it is not data, if it is NaN, or if the point lies in no raster. A
        pixel owns its top and left edges, so a point on a raster's right or bottom edge lies outside.

    Raises
    ------
    ValueError
        If an argument is invalid, or the rasters have different numbers of bands.
    AccessDeniedError, rasterio.errors.RasterioIOError
        If a raster is refused, or cannot be read, as in `read_windows`.

    Examples
    --------
    >>> with terrascope_env():  # doctest: +SKIP
    ...     land_cover = sample(url, [(6.61, 0.19), (6.73, 0.34)])
    """
    files = [fspath(urls)] if isinstance(urls, str | PathLike) else [fspath(url) for url in urls]
    if not files:
        raise ValueError("there is no URL to sample.")
    points = _as_points(coords)
    workers = Workers(max_workers)
    datasets = Datasets(keep=2 * workers.count)
    with datasets, workers:  # leaving the workers waits for them, so no dataset is closed while it is read
        layouts = list(
            workers.in_order(lambda url: datasets.read(url, lambda data: _layout(data, url, indexes)), files)
        )
        values = _all_masked(len(points), layouts)
        data, masked = values.data, np.ma.getmaskarray(values)

        def fill(read: _Read) -> int:
            layout = read.layout
            array, mask = datasets.read(
                layout.url,
                lambda dataset: _values(dataset, layout, read),
                window=read.window,
                keep=read.alone,
            )
            data[read.points], masked[read.points] = array, mask
            return len(read.points)

        done = 0
        for count in workers.in_order(fill, _reads(points, crs, layouts)):
            done += count
            if progress is not None:
                progress(done, len(points))
    return values


@dataclass(frozen=True)
class _Layout:
    """The facts about a file that are needed to sample it."""

    url: str
    transform: Affine
    width: int
    height: int
    crs: CRS | None
    block_shape: tuple[int, int]
    bands: list[int]
    dtype: np.dtype[Any]
    nodata: list[float | None]
    has_mask: bool


@dataclass(frozen=True)
class _Read:
    """Points that are read together: those in neighbouring blocks of one row of a file."""

    layout: _Layout
    points: Ints
    rows: Ints
    columns: Ints

    @property
    def window(self) -> Window:
        """The smallest window around the points."""
        top, left = int(self.rows.min()), int(self.columns.min())
        return Window(left, top, int(self.columns.max()) - left + 1, int(self.rows.max()) - top + 1)

    @property
    def alone(self) -> bool:
        """Whether all points lie in one block."""
        width = self.layout.block_shape[1]
        return bool(self.columns.min() // width == self.columns.max() // width)


def _layout(dataset: Any, url: str, indexes: int | Sequence[int] | None) -> _Layout:
    bands = check_indexes(indexes, dataset.count, url)
    return _Layout(
        url=url,
        transform=dataset.transform,
        width=dataset.width,
        height=dataset.height,
        crs=dataset.crs,
        block_shape=dataset.block_shapes[bands[0] - 1],
        bands=bands,
        dtype=np.result_type(*(dataset.dtypes[band - 1] for band in bands)),
        nodata=[dataset.nodatavals[band - 1] for band in bands],
        has_mask=has_mask(dataset, bands),
    )


def _all_masked(count: int, layouts: list[_Layout]) -> np.ma.MaskedArray[Any, Any]:
    """Return the array of results, all masked."""
    bands = {len(layout.bands) for layout in layouts}
    if len(bands) > 1:
        raise ValueError(
            f"the rasters have different numbers of bands, {sorted(bands)}; choose bands with indexes."
        )
    shape = (count, bands.pop())
    nodata = layouts[0].nodata[0]
    dtype = np.result_type(*(layout.dtype for layout in layouts))
    values: np.ma.MaskedArray[Any, Any] = np.ma.masked_array(
        np.full(shape, 0 if nodata is None else nodata, dtype), mask=np.ones(shape, bool)
    )
    if nodata is not None:
        values.fill_value = nodata
    return values


def _as_points(coords: Any) -> Floats:
    points = np.asarray(coords if hasattr(coords, "__array__") else list(coords), dtype=np.float64)
    if points.size == 0:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"coords has the shape {points.shape}; it must be (points, 2), x and y of each.")
    return points


def _reads(points: Floats, crs: Any, layouts: list[_Layout]) -> Iterator[_Read]:
    """Find the file of each point, and yield the reads, file by file and block by block."""
    left = np.arange(len(points))  # the points that have not been found in a file
    given = None if crs is None else CRS.from_user_input(crs)
    projected: tuple[Any, Floats, Floats] | None = None  # all points in the CRS of the latest file
    for layout in layouts:
        target = given if given is None or layout.crs is None else layout.crs
        if projected is None or projected[0] != target:
            projected = (target, *reproject(points[:, 0], points[:, 1], given, target))
        rows, columns, inside = pixels_of(
            projected[1][left], projected[2][left], layout.transform, layout.width, layout.height
        )
        for group in _neighbours(rows[inside], columns[inside], layout):
            yield _Read(layout, left[inside][group], rows[inside][group], columns[inside][group])
        left = left[~inside]


def _neighbours(rows: Ints, columns: Ints, layout: _Layout) -> Iterator[Ints]:
    """Group pixels that lie in the same block or in adjacent blocks of a row."""
    if not len(rows):
        return
    height, width = layout.block_shape
    across = -(-layout.width // width)
    block = rows // height * across + columns // width
    order = np.argsort(block, kind="stable")
    blocks, starts = np.unique(block[order], return_index=True)
    most = max(1, PIXELS_AT_ONCE // (height * width * len(layout.bands)))
    stops = np.append(starts[1:], len(order))
    first = 0
    for i in range(1, len(blocks) + 1):
        goes_on = i < len(blocks) and blocks[i] == blocks[i - 1] + 1 and blocks[i] % across != 0
        if not goes_on or i - first == most:
            yield order[starts[first] : stops[i - 1]]
            first = i


def _values(dataset: Any, layout: _Layout, read: _Read) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return the values and the mask of a read's points, both of shape (points, bands)."""
    window = read.window
    at = (slice(None), read.rows - window.row_off, read.columns - window.col_off)
    values = dataset.read(layout.bands, window=window)[at]
    check_block_offsets(dataset, window)
    mask = dataset.read_masks(layout.bands, window=window)[at] if layout.has_mask else None
    return values.T, ~is_valid(values, layout.nodata, mask).T
