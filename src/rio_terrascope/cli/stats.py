"""``tsread stats``: areas of classes, or statistics of bands."""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.options import (
    RegionOptions,
    band_option,
    json_option,
    prefer_local_option,
    region_options,
)
from rio_terrascope.cli.output import Progress, show
from rio_terrascope.settings import shown

if TYPE_CHECKING:
    from rio_terrascope.analysis.regions import Region
    from rio_terrascope.reading.raster import Raster


@terrascope.command(short_help="Areas of classes, or statistics of bands.")
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@region_options(geometry=True)
@band_option
@click.option(
    "--categorical/--continuous",
    default=None,
    help="Treat values as classes, or as numbers.  [default: classes if there is a colour table]",
)
@prefer_local_option
@json_option
def stats(
    urls: tuple[str, ...],
    region: RegionOptions,
    bands: tuple[int, ...],
    categorical: bool | None,
    prefer_local: bool,
    as_json: bool,
) -> None:
    """Measure a raster, or part of a raster, at full resolution.

    For a class map: the pixels, area in km2 and share of each class. Areas are true areas on the
    ellipsoid, whatever the CRS; shares are shares of the area with data. For other rasters: count,
    minimum, maximum, mean and standard deviation of each band's stored values. Several rasters are
    measured one by one; with --json they become a list. '-' stands for the rasters on stdin, as
    'tsread search' prints them.

    \b
        tsread stats URL --bbox 6.4 -0.1 7.5 1.8
        tsread stats URL --geometry park.geojson --json
        tsread search terrascope-s2-ndvi-v2 --datetime 2021-06 | tsread stats -
    """
    if categorical and bands:
        raise click.UsageError("--band needs --continuous: classes are read from the first band.")
    from rio_terrascope.cli.access import access
    from rio_terrascope.cli.inputs import named_rasters
    from rio_terrascope.reading.raster import Raster

    rasters = named_rasters(urls, prefer_local=prefer_local)
    measured = []
    with access(*rasters):  # one login for all
        for url in rasters:
            with Raster(url) as raster, Progress("Measuring") as progress:
                measured.append(_measure(raster, region.of(raster.dataset), bands, categorical, progress))
            if not as_json:
                _print(measured[-1], with_name=len(rasters) > 1)
    if as_json:
        click.echo(json.dumps(measured if len(rasters) > 1 else measured[0], indent=2))


def _measure(
    raster: "Raster", region: "Region", bands: tuple[int, ...], categorical: bool | None, progress: Progress
) -> dict[str, Any]:
    from rio_terrascope.analysis.classes import class_labels
    from rio_terrascope.analysis.zonal import class_areas, is_class_map, summarize

    dataset = raster.dataset
    facts: dict[str, Any] = {"name": shown(dataset.name)}
    if is_class_map(dataset) if categorical is None else categorical:
        labels = class_labels(dataset)
        facts["classes"] = [
            {"label": labels.get(found.value, f"class {found.value}")} | dataclasses.asdict(found)
            for found in class_areas(raster, region, progress=progress.update)
        ]
    else:
        found_bands = summarize(raster, region, bands=list(bands) or None, progress=progress.update)
        facts["bands"] = [
            dataclasses.asdict(found)
            | {"scale": dataset.scales[found.band - 1], "offset": dataset.offsets[found.band - 1]}
            for found in found_bands
        ]
    return facts


def _print(facts: dict[str, Any], *, with_name: bool) -> None:
    if with_name:
        show(facts["name"])
    if "classes" in facts:
        _print_classes(facts["classes"])
    else:
        _print_bands(facts["bands"])


def _print_classes(classes: list[dict[str, Any]]) -> None:
    total = {
        "value": "",
        "label": "All",
        "pixels": sum(found["pixels"] for found in classes),
        "area_km2": sum(found["area_km2"] for found in classes),
        "share": 1.0 if classes else 0.0,
    }
    wide = max(len(found["label"]) for found in [*classes, {"label": "Class"}])
    click.echo(f"{'Value':>5}  {'Class':<{wide}}  {'Pixels':>13}  {'km2':>12}  {'Share':>8}")
    for found in [*classes, total]:
        show(
            f"{found['value']:>5}  {found['label']:<{wide}}  {found['pixels']:>13,}  "
            f"{found['area_km2']:>12,.3f}  {found['share']:>8.3%}"
        )


def _print_bands(bands: list[dict[str, Any]]) -> None:
    click.echo(f"{'Band':>4}  {'Count':>13}  {'Min':>12}  {'Max':>12}  {'Mean':>12}  {'Std':>12}")
    for band in bands:
        numbers = (
            "-" if band[name] is None else f"{band[name]:.6g}" for name in ("min", "max", "mean", "std")
        )
        click.echo(
            f"{band['band']:>4}  {band['count']:>13,}  " + "  ".join(f"{number:>12}" for number in numbers)
        )
        if (band["scale"], band["offset"]) != (1, 0):
            click.echo(
                f"Band {band['band']}: a stored value v means {band['scale']:g} * v + {band['offset']:g}.",
                err=True,
            )
