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
from rio_terrascope.reading.engine import Engine, Progress
from rio_terrascope.reading.grid import pixels_of, reproject
from rio_terrascope.reading.jobs import Request
from rio_terrascope.reading.masks import has_mask
from rio_terrascope.reading.parts import Part

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_Values = tuple[Ints, tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]
"""Numbers of points, and their values and whether these are data, both of shape (bands, points)."""


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
        As in `read_windows`.
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
    with Engine(max_workers) as engine:
        layouts = list(engine.run(_layout_request(url, indexes) for url in files))
        values = _all_masked(len(points), layouts)
        data, masked = values.data, np.ma.getmaskarray(values)
        done = 0
        for found, (array, valid) in engine.run(_requests(points, crs, layouts)):
            data[found], masked[found] = array.T, ~valid.T
            done += len(found)
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
    masks: bool


def _layout_request(url: str, indexes: int | Sequence[int] | None) -> Request[_Layout]:
    def layout(_: None, dataset: Any) -> _Layout:
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
            masks=has_mask(dataset, bands),
        )

    return Request(url, lambda _: None, layout)


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


def _requests(points: Floats, crs: Any, layouts: list[_Layout]) -> Iterator[Request[_Values]]:
    """Find the file of each point, and yield a request for each block with points, file by file."""
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
        found, rows, columns = left[inside], rows[inside], columns[inside]
        height, width = layout.block_shape
        block = rows // height * -(-layout.width // width) + columns // width
        order = np.argsort(block, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
            if len(group):
                yield _request(layout, found[group], rows[group], columns[group])
        left = left[~inside]


def _request(layout: _Layout, points: Ints, rows: Ints, columns: Ints) -> Request[_Values]:
    """Return the request for the points in one block."""
    top, left = int(rows.min()), int(columns.min())
    window = Window(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
    part = Part.of(window, layout.bands, masks=layout.masks)

    def read(part: Part, dataset: Any) -> _Values:
        pixels, valid = part.read_valid(dataset)
        at = (slice(None), rows - top, columns - left)
        return points, (pixels[at], valid[at])

    return Request(layout.url, lambda _: part, read, is_small=True)
