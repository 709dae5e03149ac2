"""Writing Cloud-Optimized GeoTIFFs: a region of a raster, or WorldCover over many tiles.

Both are read and written a few blocks at a time, so the result may be larger than memory.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.shutil import copy
from rasterio.windows import Window

from rio_terrascope import worldcover
from rio_terrascope.analysis.outputs import written_whole
from rio_terrascope.analysis.regions import Region
from rio_terrascope.errors import with_next_step
from rio_terrascope.reading import Progress
from rio_terrascope.reading.bbox import check_indexes, output_shape
from rio_terrascope.reading.grid import cut_window
from rio_terrascope.reading.masks import has_mask
from rio_terrascope.reading.parts import Part
from rio_terrascope.reading.raster import Raster

BLOCK = 512  # rows and columns of the output's blocks: GDAL's default for COGs
_THREADS = 2  # that compress; each takes up to 15 MB
_TILE_BLOCK = 1024  # rows and columns of a WorldCover tile's blocks


def extract(
    raster: Raster,
    path: str | os.PathLike[str],
    region: Region,
    *,
    resolution: float | tuple[float, float] | None = None,
    max_size: int | None = None,
    indexes: int | Sequence[int] | None = None,
    nodata: float | None = None,
    progress: Progress | None = None,
) -> None:
    """Copy a region of a raster into a Cloud-Optimized GeoTIFF.

    Nodata, colour table, tags, descriptions, scales, offsets and units are kept. A temporary file of
    about the same size lies beside the output while it is written.

    Parameters
    ----------
    raster : Raster
    path : path-like
        The file to write, as by `written_whole`: a device is written to, an existing file keeps its mode.
    region : Region
        Pixels outside its geometries become nodata.
    resolution, max_size : optional
        As in `read_bbox`. Coarser pixels are the nearest ones of an overview.
    indexes : int or sequence of int, optional
        The bands to copy, from 1. Default: all bands.
    nodata : float, optional
        The nodata value of the output. Default: the raster's own.
    progress : callable, optional
        Called with the number of pixels written so far and the total.

    Raises
    ------
    ValueError
        If an argument is invalid, or the region has geometries and there is neither a nodata value nor
        a mask.
    OSError
        If the disk is full.
    rasterio.errors.RasterioIOError
        If the raster cannot be read or the file cannot be written.
    """
    dataset, window = raster.dataset, region.window
    bands = check_indexes(indexes, dataset.count, dataset.name)
    shape = output_shape(dataset, window, resolution=resolution, max_size=max_size)
    nodata = dataset.nodatavals[bands[0] - 1] if nodata is None else nodata
    masks = has_mask(dataset, bands)
    if region.geometries and nodata is None and not masks:
        raise ValueError(
            with_next_step("the raster has no nodata value to mask with", "name one with --nodata")
        )
    dtype = np.result_type(*(dataset.dtypes[band - 1] for band in bands))
    reads = list(_reads(dataset, window, shape, len(bands) * dtype.itemsize))
    parts = (Part(source, (target.height, target.width), bands, masks) for source, target in reads)
    done = 0
    with cog(
        path,
        height=shape[0],
        width=shape[1],
        count=len(bands),
        dtype=dtype,
        crs=dataset.crs,
        transform=Part(window, shape, bands).transform(dataset),
        nodata=nodata,
    ) as out:
        copy_metadata(dataset, out, bands)
        arrays = raster.read(parts, Part.read_valid)
        for (_, target), (pixels, valid) in zip(reads, arrays, strict=True):
            outside = region.outside(out.window_transform(target), pixels.shape[1:])
            if masks:
                out.write_mask(valid.all(axis=0) & ~outside, window=target)
            elif region.geometries:
                pixels[:, outside] = nodata
            _write(out, pixels, target)
            done += target.width * target.height
            if progress is not None:
                progress(done, shape[0] * shape[1])


def write_worldcover(
    bbox: Sequence[float],
    year: int,
    path: str | os.PathLike[str],
    *,
    resolution: float | None = None,
    progress: Progress | None = None,
) -> None:
    """Write WorldCover's map of a box as a Cloud-Optimized GeoTIFF, with its colours and credits.

    Parameters
    ----------
    bbox, year, resolution
        As in `worldcover.read`.
    path : path-like
        The file to write, as by `written_whole`: a device is written to, an existing file keeps its mode.
    progress : callable, optional
        Called with the number of pixels written so far and the total.

    Raises
    ------
    ValueError, AccessDeniedError, rasterio.errors.RasterioIOError
        As in `worldcover.read`.
    OSError
        If the disk is full.
    """
    profile = worldcover.grid_profile(bbox, resolution)
    height, width = profile["height"], profile["width"]
    done = 0
    with cog(
        path,
        height=height,
        width=width,
        count=1,
        dtype=profile["dtype"],
        crs=profile["crs"],
        transform=profile["transform"],
        nodata=profile["nodata"],
    ) as out:
        # 0 is transparent: programs that ignore nodata would draw it black
        colours = {entry.value: (*entry.color, 255) for entry in worldcover.LEGEND}
        out.write_colormap(1, {worldcover.NODATA: (0, 0, 0, 0)} | colours)
        out.update_tags(**_tags(year))
        windows = cut_window(Window(0, 0, width, height), (_TILE_BLOCK, _TILE_BLOCK), 1)
        for window, pixels in worldcover.read_parts(bbox, year, windows, resolution):
            _write(out, pixels[np.newaxis], window)
            done += window.width * window.height
            if progress is not None:
                progress(done, width * height)


@contextlib.contextmanager
def cog(path: str | os.PathLike[str], **profile: Any) -> Iterator[Any]:
    """Open a dataset for writing that becomes a Cloud-Optimized GeoTIFF when the block ends.

    A COG cannot be written window by window. A plain GeoTIFF in a temporary folder beside it takes the
    windows, is copied if the block ends without an error, and is deleted in any case.

    Parameters
    ----------
    path : path-like
        The file to write, as by `written_whole`.
    **profile
        As in `rasterio.open`.

    Yields
    ------
    rasterio.io.DatasetWriter
    """
    # integers may be classes, so their overviews must not contain new values
    resampling = "nearest" if np.dtype(profile["dtype"]).kind in "iub" else "average"
    predictor = {"i": "standard", "u": "no", "f": "floating_point"}.get(np.dtype(profile["dtype"]).kind, "no")
    with (
        written_whole(path) as whole,
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True, GDAL_NUM_THREADS=_THREADS),
    ):
        base = whole.with_name(f"{whole.name}.base")
        with rasterio.open(
            base,
            "w",
            driver="GTiff",
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            sparse_ok=True,  # blocks without data, such as the sea, take neither space nor time
            compress="lzw",
            bigtiff="if_safer",
            **profile,
        ) as out:
            yield out
        _check_space(whole, 2 * base.stat().st_size)  # the copy, and its overviews before they are joined
        copy(
            base,
            whole,
            driver="COG",
            compress="deflate",
            predictor=predictor,
            blocksize=BLOCK,
            overview_resampling=resampling,
            sparse_ok=True,
            bigtiff="if_safer",
        )


def _write(out: Any, pixels: npt.NDArray[Any], window: Window) -> None:
    """Write pixels to a dataset from `cog`, or raise OSError if the disk has no space for them."""
    _check_space(Path(out.name), 2 * pixels.nbytes)
    out.write(pixels, window=window)


def copy_metadata(source: Any, target: Any, bands: Sequence[int]) -> None:
    """Copy what gives pixels their meaning: colours, tags, descriptions, scales, offsets and units."""
    tags = source.tags()
    tags.pop("OVR_RESAMPLING_ALG", None)  # describes the source's overviews, not the output's
    target.update_tags(**tags)
    for number, band in enumerate(bands, start=1):
        target.update_tags(number, **{k: v for k, v in source.tags(band).items() if "STATISTICS" not in k})
        with contextlib.suppress(ValueError):  # no colour table
            target.write_colormap(number, source.colormap(band))
        if source.descriptions[band - 1]:
            target.set_band_description(number, source.descriptions[band - 1])
        if source.units[band - 1]:
            target.set_band_unit(number, source.units[band - 1])
    target.scales = [source.scales[band - 1] for band in bands]
    target.offsets = [source.offsets[band - 1] for band in bands]


def _check_space(path: Path, needed: int) -> None:
    """Raise OSError early: GDAL's errors about a full disk are vague, and some come too late."""
    if shutil.disk_usage(path.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _reads(
    dataset: Any, window: Window, shape: tuple[int, int], pixel_bytes: int
) -> Iterator[tuple[Window, Window]]:
    """Yield windows to read, each with its window in the output."""
    if shape == (window.height, window.width):
        for source in cut_window(window, dataset.block_shapes[0], pixel_bytes):
            left, top = source.col_off - window.col_off, source.row_off - window.row_off
            yield source, Window(left, top, source.width, source.height)
        return
    down, across = window.height / shape[0], window.width / shape[1]
    for target in cut_window(Window(0, 0, shape[1], shape[0]), (BLOCK, BLOCK), pixel_bytes):
        left, top = window.col_off + target.col_off * across, window.row_off + target.row_off * down
        yield Window(left, top, target.width * across, target.height * down), target


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
