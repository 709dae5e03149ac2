"""Options that several commands have, spelled as rio spells them, and what they mean of a raster."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rio_terrascope.analysis.regions import Region

Command = Callable[..., Any]

Box = tuple[float, float, float, float]

DEGREES = "EPSG:4326"


def finite(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    """Refuse infinity and NaN, which click's ranges let pass."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number.")
    return value


def known_crs(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Refuse a CRS that PROJ does not know, before anything is read."""
    if value is None:
        return None
    import rasterio
    from rasterio.crs import CRS

    try:
        with rasterio.Env():  # without one GDAL writes to stderr itself
            CRS.from_user_input(value)
    except (ValueError, TypeError) as error:  # CRSError is one of the first
        raise click.BadParameter(
            f"{value!r} is no CRS ({str(error).rstrip('.')}). Next: give it as rio does, EPSG:4326 say."
        ) from None
    return value


def _box(_ctx: click.Context, _param: click.Parameter, box: Box | None) -> Box | None:
    if box is None:
        return None
    if not all(map(math.isfinite, box)):
        raise click.BadParameter(f"{box} has numbers that are not finite.")
    if not (box[0] < box[2] and box[1] < box[3]):
        raise click.BadParameter(
            f"{box} is inside out: it is west south east north, with west < east and south < north."
        )
    return box


def region_options(*, window: bool = False, geometry: bool = False) -> Callable[[Command], Command]:
    """Return the options that name a part of a raster; `chosen_region` makes a region of them."""
    options = [
        click.option(
            "--bbox",
            nargs=4,
            type=float,
            metavar="W S E N",
            callback=_box,
            help="Pixels whose area meets the box: west south east north, in degrees or --bbox-crs.",
        ),
        click.option(
            "--bbox-crs",
            metavar="CRS",
            callback=known_crs,
            help=f"What the box is in.  [default: {DEGREES}]",
        ),
    ]
    if window:
        options.append(
            click.option(
                "--window",
                type=(int, int, click.IntRange(min=1), click.IntRange(min=1)),
                metavar="COL ROW WIDTH HEIGHT",
                help="Pixels to read.",
            )
        )
    if geometry:
        options += [
            click.option(
                "--geometry",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                metavar="FILE.geojson",
                help="Pixels whose centre lies inside of the polygons.",
            ),
            click.option("--all-touched", is_flag=True, help="Pixels that the polygons touch, too."),
        ]

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def band_option(command: Command) -> Command:
    """Add ``--band``, which may be repeated."""
    return click.option(
        "-b",
        "--band",
        "bands",
        type=click.IntRange(min=1),
        multiple=True,
        help="Band to take; may be repeated.",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def check_region(
    *,
    bbox: Box | None = None,
    bbox_crs: str | None = None,
    window: tuple[int, int, int, int] | None = None,
    geometry: Path | None = None,
    all_touched: bool = False,
) -> None:
    """Refuse two answers to one question, and an option without the one that it is about."""
    named = {"--bbox": bbox, "--window": window, "--geometry": geometry}
    given = [name for name, value in named.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"give one of {' and '.join(given)}, not {len(given)}.")
    if bbox_crs is not None and bbox is None:
        raise click.UsageError("--bbox-crs needs --bbox.")
    if all_touched and geometry is None:
        raise click.UsageError("--all-touched needs --geometry.")


def chosen_region(
    dataset: Any,
    *,
    bbox: Box | None = None,
    bbox_crs: str | None = None,
    window: tuple[int, int, int, int] | None = None,
    geometry: Path | None = None,
    all_touched: bool = False,
) -> "Region":
    """Return the part of a raster that the options name; all of it where they name none."""
    from rio_terrascope.analysis import regions, vector

    if bbox is not None:
        return regions.box_region(dataset, bbox, crs=bbox_crs or DEGREES)
    if window is not None:
        return regions.window_region(dataset, *window)
    if geometry is not None:
        geometries, crs = vector.read_geometries(geometry)
        return regions.geometry_region(dataset, geometries, crs=crs, all_touched=all_touched)
    return regions.whole(dataset)
