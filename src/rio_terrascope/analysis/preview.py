"""PNG pictures of rasters: the plain pixels, or a map with legend, scale and credits."""

import math
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from rio_terrascope.analysis.areas import pixel_areas
from rio_terrascope.analysis.classes import class_labels, is_worldcover
from rio_terrascope.analysis.regions import Region
from rio_terrascope.analysis.zonal import is_class_map
from rio_terrascope.errors import install_advice, with_next_step
from rio_terrascope.reading.bbox import check_indexes
from rio_terrascope.reading.masks import has_mask
from rio_terrascope.reading.parts import Part
from rio_terrascope.reading.raster import Raster

NO_DATA = (238, 242, 245)  # the background of a map: nearly white
STRETCH = (2, 98)  # the percentiles that get the darkest and the brightest colour

# Nine colours of matplotlib's viridis (CC0): its order is seen with every colour vision, and in grey print
_VIRIDIS = np.array(
    [
        (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
        (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37),
    ]
)  # fmt: skip

_INK, _SOFT, _PAPER = (34, 40, 49), (110, 118, 129), (255, 255, 255)


@dataclass(frozen=True)
class Picture:
    """Coloured pixels.

    Attributes
    ----------
    colours : ndarray of uint8, shape (rows, columns, 4)
        Red, green, blue, opacity.
    transform : Affine
    classes : dict
        The colour of each class in the picture; empty for a continuous raster.
    limits : tuple of float or None
        For a single continuous band, the values of the darkest and the brightest colour.
    """

    colours: npt.NDArray[np.uint8]
    transform: Affine
    classes: dict[int, tuple[int, int, int]]
    limits: tuple[float, float] | None = None


def picture(
    raster: Raster, region: Region, *, size: int = 1024, bands: Sequence[int] | None = None
) -> Picture:
    """Read a region from a suitable overview, and colour its pixels.

    Parameters
    ----------
    raster : Raster
    region : Region
    size : int
        The most pixels along the longer side. Pixels are never magnified.
    bands : sequence of int, optional
        One band, or three for red, green and blue. Default: the bands whose colour interpretation is
        red, green and blue, otherwise the first band.

    Returns
    -------
    Picture
        For a grid of latitudes and longitudes, the ratio of width to height is true at the middle of the
        region, so that islands keep their shape.
    """
    dataset = raster.dataset
    bands = check_indexes(bands, dataset.count, dataset.name) if bands else _bands(dataset)
    if len(bands) not in (1, 3):
        raise ValueError(f"a picture has one band or three, not {len(bands)}.")
    shape = _shape(dataset, region, size)
    part = Part(region.window, shape, bands, masks=has_mask(dataset, bands))
    ((pixels, valid),) = raster.read([part], Part.read_valid)
    transform = part.transform(dataset)
    counts = valid.all(axis=0) & ~region.outside(transform, shape)
    colours = np.zeros((*shape, 4), np.uint8)
    colours[..., 3] = np.where(counts, 255, 0)
    if len(bands) == 1 and is_class_map(dataset):
        table = dataset.colormap(bands[0])
        present = [int(value) for value in np.unique(pixels[0][counts])]
        for value in present:
            colours[pixels[0] == value, :3] = table.get(value, (0, 0, 0))[:3]
        colours[~counts] = 0
        return Picture(colours, transform, {value: table.get(value, (0, 0, 0))[:3] for value in present})
    limits = [_limits(band[counts]) for band in pixels]
    levels = [_stretched(band, *limit) for band, limit in zip(pixels, limits, strict=True)]
    if len(bands) == 1:
        colours[..., :3] = _viridis(levels[0])
    else:
        colours[..., :3] = np.round(np.stack(levels, axis=-1) * 255)
    colours[~counts] = 0
    return Picture(colours, transform, {}, limits[0] if len(bands) == 1 else None)


def write_plain(picture: Picture, path: str | os.PathLike[str]) -> None:
    """Write the pixels alone; those without data are transparent."""
    rows, columns, bands = picture.colours.shape
    profile = {"driver": "PNG", "height": rows, "width": columns, "count": bands, "dtype": "uint8"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a picture needs no CRS
        with rasterio.open(path, "w", **profile) as png:
            png.write(np.moveaxis(picture.colours, -1, 0))


def write_map(picture: Picture, dataset: Any, path: str | os.PathLike[str], *, size: int = 1024) -> None:
    """Write a map: the pixels in a frame, with degrees, a scale, a legend and the credits.

    Parameters
    ----------
    picture : Picture
    dataset : rasterio.DatasetReader
        The raster that the picture was made from: the source of title, CRS and credits.
    path : path-like
    size : int
        Pixels along the map's longer side. A smaller picture is magnified.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    """
    _Sheet(picture, dataset, size).draw().save(path, format="PNG", optimize=True)


class _Sheet:
    """Draws a map. All lengths are derived from its size."""

    def __init__(self, picture: Picture, dataset: Any, size: int) -> None:
        self._image, self._draw_module, self._font_module = _pillow()
        self._picture = picture
        self._dataset = dataset
        rows, columns = picture.colours.shape[:2]
        self._zoom = max(1.0, size / max(rows, columns))
        self._height, self._width = round(rows * self._zoom), round(columns * self._zoom)
        self._unit = max(12, round(max(self._height, self._width) / 46))  # the text's height

    def draw(self) -> Any:
        unit = self._unit
        text, small = (self._font_module.load_default(size) for size in (unit, unit * 0.72))
        bold = self._font_module.load_default(unit * 1.25)
        entries = self._entries()
        heading = self._heading()
        credits = self._credits()
        ruler = self._draw_module.Draw(self._image.new("RGB", (1, 1)))

        def wide(words: str, font: Any) -> int:
            return int(ruler.textlength(words, font=font)) + 1

        ticks = [*self._ticks("x"), *self._ticks("y")]
        left = unit + max([0, *(wide(words, small) for axis, _, words in ticks if axis == "y")]) + unit // 2
        top = unit * 3 if heading else unit
        legend = max([0, *(wide(label, text) for _, label in entries)])
        legend = legend + unit * 3 if entries else unit * 5 if self._picture.limits else 0
        right = unit + legend
        below = unit * 2 + (unit if ticks else 0) + (unit if credits else 0)
        width = max(left + self._width + right, wide(heading, bold) + 2 * unit)
        sheet = self._image.new("RGB", (width, top + self._height + below), _PAPER)
        draw = self._draw_module.Draw(sheet)
        if heading:
            draw.text((left, top - unit * 0.9), heading, fill=_INK, font=bold, anchor="ls")
        box = (left, top, left + self._width, top + self._height)
        sheet.paste(self._map(), box[:2])
        draw.rectangle((box[0] - 1, box[1] - 1, box[2], box[3]), outline=_INK, width=max(1, unit // 16))
        for axis, position, words in ticks:
            if axis == "x":
                x = left + position
                draw.line((x, box[3], x, box[3] + unit // 3), fill=_INK)
                draw.text((x, box[3] + unit // 2), words, fill=_SOFT, font=small, anchor="ma")
            else:
                y = top + position
                draw.line((box[0] - unit // 3, y, box[0] - 1, y), fill=_INK)
                draw.text((box[0] - unit // 2, y), words, fill=_SOFT, font=small, anchor="rm")
        self._scale_bar(draw, box, legend - unit, small)
        if entries:
            self._legend(draw, box, entries, text)
        elif self._picture.limits:
            self._colour_bar(draw, box, small)
        if credits:
            credits = _shortened(credits, lambda words: wide(words, small) <= width - left - unit)
            draw.text((left, sheet.height - unit * 0.8), credits, fill=_SOFT, font=small, anchor="ls")
        return sheet

    def _map(self) -> Any:
        """Return the pixels on the background, magnified to the map's size."""
        pixels = self._image.fromarray(self._picture.colours, "RGBA")
        if self._zoom > 1:
            pixels = pixels.resize((self._width, self._height), self._image.Resampling.NEAREST)
        ground = self._image.new("RGBA", pixels.size, (*NO_DATA, 255))
        ground.alpha_composite(pixels)
        return ground.convert("RGB")

    def _heading(self) -> str:
        tags = self._dataset.tags()
        if is_worldcover(self._dataset):
            year = re.search(r"year (\d{4})", tags.get("title", "")) or re.search(
                r"_(20\d\d)_v", self._dataset.name
            )
            real = not tags.get("title", "").startswith("SYNTHETIC")
            return f"{'ESA WorldCover' if real else 'Synthetic land cover'}{f' {year[1]}' if year else ''}"
        return str(tags.get("title") or Path(self._dataset.name.partition("?")[0]).stem)[:80]

    def _credits(self) -> str:
        credit = self._dataset.tags().get("copyright", "")
        return credit if not credit or credit.startswith(("©", "Synthetic")) else f"© {credit}"

    def _entries(self) -> list[tuple[tuple[int, int, int], str]]:
        labels = class_labels(self._dataset)
        entries = [
            (colour, labels.get(value, f"class {value}")) for value, colour in self._picture.classes.items()
        ][:40]
        if entries and not self._picture.colours[..., 3].all():
            entries.append((NO_DATA, "No data"))
        return entries

    def _legend(self, draw: Any, box: tuple[int, int, int, int], entries: Any, font: Any) -> None:
        unit = self._unit
        x, step = box[2] + unit, unit * 1.75
        step = min(step, (box[3] - box[1]) / max(1, len(entries)))
        for number, (colour, label) in enumerate(entries):
            y = box[1] + step * number
            draw.rectangle((x, y, x + unit * 1.2, y + step * 0.68), fill=colour, outline=_SOFT)
            draw.text((x + unit * 1.7, y + step * 0.34), label, fill=_INK, font=font, anchor="lm")

    def _colour_bar(self, draw: Any, box: tuple[int, int, int, int], font: Any) -> None:
        unit = self._unit
        x, height = box[2] + unit, min(box[3] - box[1], unit * 14)
        colours = _viridis(np.linspace(1, 0, height))
        for row, colour in enumerate(colours.tolist()):
            draw.line((x, box[1] + row, x + unit, box[1] + row), fill=tuple(colour))
        draw.rectangle((x, box[1], x + unit, box[1] + height), outline=_SOFT)
        low, high = self._picture.limits or (0.0, 1.0)
        for fraction in (0.0, 0.5, 1.0):
            y = box[1] + height * (1 - fraction)
            words = f"{low + (high - low) * fraction:.3g}"
            draw.text((x + unit * 1.4, y), words, fill=_INK, font=font, anchor="lm")

    def _scale_bar(self, draw: Any, box: tuple[int, int, int, int], space: int, font: Any) -> None:
        """Draw the scale bar under the legend if it is wide enough there, otherwise on the map."""
        metres = _ground_size(self._picture, self._dataset.crs)
        if metres is None:
            return
        unit = self._unit
        beside = space >= unit * 6
        per_pixel = metres / self._zoom
        length = _nice(min(space if beside else math.inf, self._width / 3) * per_pixel)
        pixels = length / per_pixel
        words = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
        x, y = (box[2] + unit, box[3]) if beside else (box[0] + unit, box[3] - unit)
        if not beside:
            back = (x - unit // 2, y - unit * 1.5, x + pixels + unit // 2, y + unit // 2)
            draw.rounded_rectangle(back, radius=unit // 4, fill=_PAPER)
        draw.rectangle((x, y - unit // 5, x + pixels, y), fill=_INK)
        draw.text((x + pixels / 2, y - unit // 2), words, fill=_INK, font=font, anchor="md")

    def _ticks(self, axis: str) -> list[tuple[str, float, str]]:
        """Return axis, position and label of a few round degrees; none if the CRS is projected."""
        crs, transform = self._dataset.crs, self._picture.transform
        if crs is None or not crs.is_geographic or transform.b or transform.d:
            return []
        origin, step = (transform.c, transform.a) if axis == "x" else (transform.f, transform.e)
        count = self._picture.colours.shape[1 if axis == "x" else 0]
        low, high = sorted((origin, origin + step * count))
        pixels = self._width if axis == "x" else self._height
        every = _nice((high - low) / max(2, pixels / (self._unit * 8)))
        decimals = max(0, -math.floor(math.log10(every) + 1e-9))
        ticks = []
        for number in range(math.ceil(low / every - 1e-9), math.floor(high / every + 1e-9) + 1):
            degrees = number * every
            if axis == "x":  # the grid's longitudes continue above 180 beyond the antimeridian
                degrees = (degrees + 180) % 360 - 180
            side = (
                ""
                if abs(degrees) < every / 2
                else ("E" if degrees > 0 else "W")
                if axis == "x"
                else ("N" if degrees > 0 else "S")
            )
            position = (number * every - origin) / step * self._zoom
            ticks.append((axis, position, f"{abs(degrees):.{decimals}f}°{side}"))
        return ticks


def _bands(dataset: Any) -> list[int]:
    by_colour = {colour: band for band, colour in zip(dataset.indexes, dataset.colorinterp, strict=True)}
    rgb = [by_colour.get(colour) for colour in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)]
    return [band for band in rgb if band] if all(rgb) else [1]


def _shape(dataset: Any, region: Region, size: int) -> tuple[int, int]:
    """Return the rows and columns that make pixels square on the ground."""
    window = region.window
    transform = dataset.window_transform(window)
    height = window.height * math.hypot(transform.b, transform.e)
    width = window.width * math.hypot(transform.a, transform.d)
    if dataset.crs is not None and dataset.crs.is_geographic:
        middle = (transform * (window.width / 2, window.height / 2))[1]
        width *= max(0.05, math.cos(math.radians(max(-89.0, min(89.0, middle)))))
    side = min(size, max(window.height, window.width))
    rows, columns = (max(1, round(side * length / max(height, width))) for length in (height, width))
    return min(rows, window.height), min(columns, window.width)


def _limits(values: npt.NDArray[Any]) -> tuple[float, float]:
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(values, STRETCH))
    return (low, high) if high > low else (low, low + 1)


def _stretched(band: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.float64]:
    return np.nan_to_num(np.clip((band.astype(np.float64) - low) / (high - low), 0, 1))


def _viridis(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    positions = np.linspace(0, 1, len(_VIRIDIS))
    channels = [np.interp(levels, positions, _VIRIDIS[:, channel]) for channel in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def _ground_size(picture: Picture, crs: Any) -> float | None:
    """Return the side of the middle pixel in metres, or None if it is unknown."""
    if crs is None:
        return None
    rows, columns = picture.colours.shape[:2]
    middle = picture.transform * Affine.translation(columns // 2, rows // 2)
    metres = math.sqrt(float(pixel_areas(middle, (1, 1), crs)[0, 0]))
    return metres if metres > 0 and math.isfinite(metres) else None


def _nice(length: float) -> float:
    """Round down to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(step * power for step in (1, 2, 5) if step * power <= length * (1 + 1e-9))


def _shortened(words: str, fits: Any) -> str:
    """Drop words from the end until the rest fits."""
    while words and not fits(words):
        words = words.rpartition(" ")[0].rstrip(" /")
    return words


def require_pillow() -> None:
    """Raise ImportError, with the command that installs it, if Pillow is missing."""
    _pillow()


def _pillow() -> tuple[Any, Any, Any]:
    try:
        from PIL import Image, ImageDraw, ImageFont
    except ImportError:
        raise ImportError(
            with_next_step(
                "a picture with a legend needs Pillow",
                f"{install_advice('preview')}; or add --no-legend for the plain pixels",
            )
        ) from None
    return Image, ImageDraw, ImageFont
