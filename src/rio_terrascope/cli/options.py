"""Options that several commands have, spelled as rio spells them, and what they mean of a raster."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rio_terrascope.regions import Region

Command = Callable[..., Any]

Box = tuple[float, float, float, float]


def region_options(*, window: bool = False, geometry: bool = False) -> Callable[[Command], Command]:
    """Return the options that name a part of a raster; `chosen_region` makes a region of them."""
    options = [
        click.option(
            "--bbox",
            nargs=4,
            type=float,
            metavar="W S E N",
            help="Pixels whose area meets the box: west south east north, in degrees or --bbox-crs.",
        ),
        click.option(
            "--bbox-crs", metavar="CRS", default="EPSG:4326", show_default=True, help="What the box is in."
        ),
    ]
    if window:
        options.append(
            click.option(
                "--window", nargs=4, type=int, metavar="COL ROW WIDTH HEIGHT", help="Pixels to read."
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
    bbox: Box | None,
    window: tuple[int, int, int, int] | None = None,
    geometry: Path | None = None,
    *,
    required: bool,
    names: str,
) -> None:
    """Refuse two answers to one question, and none where one is needed, before anything is read."""
    given = sum(option is not None for option in (bbox, window, geometry))
    if given > 1:
        raise click.UsageError(f"give one of {names}, not {given}.")
    if required and not given:
        raise click.UsageError(f"one of {names} is needed.")
    if bbox is not None and not (bbox[0] < bbox[2] and bbox[1] < bbox[3]):
        raise click.UsageError(
            f"the box {bbox} is inside out: it is west south east north, with west < east and south < north."
        )


def chosen_region(
    dataset: Any,
    *,
    bbox: Box | None = None,
    bbox_crs: str = "EPSG:4326",
    window: tuple[int, int, int, int] | None = None,
    geometry: Path | None = None,
    all_touched: bool = False,
) -> "Region":
    """Return the part of a raster that the options name; all of it where they name none."""
    from rio_terrascope import regions

    if bbox is not None:
        return regions.box_region(dataset, bbox, crs=bbox_crs)
    if window is not None:
        return regions.window_region(dataset, *window)
    if geometry is not None:
        geometries, crs = regions.read_geometries(geometry)
        return regions.geometry_region(dataset, geometries, crs=crs, all_touched=all_touched)
    return regions.whole(dataset)
