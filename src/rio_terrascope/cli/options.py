"""Options that several commands share, spelled as in rio."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rio_terrascope.errors import with_next_step

if TYPE_CHECKING:
    from rio_terrascope.analysis.regions import Region

Command = Callable[..., Any]
Option = Callable[[Command], Command]  # a decorator

Box = tuple[float, float, float, float]

DEGREES = "EPSG:4326"


# for commands that read URLs or STAC items from stdin
prefer_local_option = click.option(
    "--prefer-local", is_flag=True, help="With items on stdin, read files that are on this machine."
)


def finite(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
    """Refuse infinity and NaN, which click's ranges accept."""
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
        with rasterio.Env():  # without an Env GDAL prints errors itself
            CRS.from_user_input(value)
    except (ValueError, TypeError) as error:  # CRSError is a ValueError
        raise click.BadParameter(
            with_next_step(
                f"{value!r} is not a CRS ({str(error).rstrip('.')})",
                "give it as rio does, for example EPSG:4326",
            )
        ) from None
    return value


def bbox_option(
    *, help: str, required: bool = False, world: bool = False, may_be_empty: bool = False
) -> Option:
    """Return ``--bbox``. A box of the `world` is in degrees and may cross the antimeridian."""

    def check(_ctx: click.Context, _param: click.Parameter, box: Box | None) -> Box | None:
        from rio_terrascope.reading.grid import check_bbox, check_world_bbox

        try:
            if box is not None and world:
                check_world_bbox(box, may_be_empty=may_be_empty)
            elif box is not None:
                check_bbox(box)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        return box

    return click.option(
        "--bbox", nargs=4, type=float, metavar="W S E N", callback=check, help=help, required=required
    )


def resolution_option(*, help: str) -> Option:
    """Return ``--resolution``."""
    size = click.FloatRange(min=0, min_open=True)
    return click.option("--resolution", type=size, callback=finite, metavar="R", help=help)


@dataclass(frozen=True)
class RegionOptions:
    """The options that name a region of a raster; without any, the region is the whole raster.

    Raises
    ------
    click.UsageError
        If two of them name a region, or one of them needs another that is missing.
    """

    bbox: Box | None = None
    bbox_crs: str | None = None
    window: tuple[int, int, int, int] | None = None
    geometry: Path | None = None
    all_touched: bool = False

    def __post_init__(self) -> None:
        if len(self.given) > 1:
            raise click.UsageError(f"give one of {' and '.join(self.given)}, not {len(self.given)}.")
        if self.bbox_crs is not None and self.bbox is None:
            raise click.UsageError("--bbox-crs needs --bbox.")
        if self.all_touched and self.geometry is None:
            raise click.UsageError("--all-touched needs --geometry.")

    @property
    def given(self) -> list[str]:
        """The names of the options that are given: none or one."""
        named = {"--bbox": self.bbox, "--window": self.window, "--geometry": self.geometry}
        return [name for name, value in named.items() if value is not None]

    def of(self, dataset: Any) -> "Region":
        """Return the region of a raster."""
        from rio_terrascope.analysis import regions, vector

        if self.bbox is not None:
            return regions.box_region(dataset, self.bbox, crs=self.bbox_crs or DEGREES)
        if self.window is not None:
            return regions.window_region(dataset, *self.window)
        if self.geometry is not None:
            geometries, crs = vector.read_geometries(self.geometry)
            return regions.geometry_region(dataset, geometries, crs=crs, all_touched=self.all_touched)
        return regions.whole(dataset)


def region_options(*, window: bool = False, geometry: bool = False) -> Option:
    """Return the options that name a region; the command gets `RegionOptions` as ``region``."""
    options: list[Option] = [
        bbox_option(help="Pixels that meet the box: west south east north, in degrees or in --bbox-crs."),
        click.option(
            "--bbox-crs",
            metavar="CRS",
            callback=known_crs,
            help=f"CRS of the box.  [default: {DEGREES}]",
        ),
    ]
    if window:
        options.append(
            click.option(
                "--window",
                type=(int, int, click.IntRange(min=1), click.IntRange(min=1)),
                metavar="COL ROW WIDTH HEIGHT",
                help="Pixels of this window.",
            )
        )
    if geometry:
        options += [
            click.option(
                "--geometry",
                type=click.Path(exists=True, dir_okay=False, path_type=Path),
                metavar="FILE.geojson",
                help="Pixels whose centre lies inside the polygons.",
            ),
            click.option(
                "--all-touched", is_flag=True, help="With --geometry: all pixels that the polygons touch."
            ),
        ]

    def add(command: Command) -> Command:
        @functools.wraps(command)
        def with_region(**values: Any) -> Any:
            named = {name: values.pop(name) for name in RegionOptions.__annotations__ if name in values}
            return command(region=RegionOptions(**named), **values)

        decorated: Command = with_region
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return add


def band_option(command: Command) -> Command:
    """Add ``--band``."""
    return click.option(
        "-b",
        "--band",
        "bands",
        type=click.IntRange(min=1),
        multiple=True,
        help="Band to read; may be repeated.",
    )(command)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
