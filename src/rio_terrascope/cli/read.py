"""``tsread read``: copy part of a raster into a file."""

from pathlib import Path

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.options import (
    RegionOptions,
    band_option,
    prefer_local_option,
    region_options,
    resolution_option,
)
from rio_terrascope.cli.output import Progress, output_file, output_option


@terrascope.command(short_help="Copy part of a raster into a file.")
@click.argument("url")
@region_options(window=True, geometry=True)
@resolution_option(help="Maximum size of a pixel, in units of the CRS.")
@click.option(
    "--max-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Maximum number of pixels along the longer side.",
)
@band_option
@click.option("--nodata", type=float, help="Value to mask with, if the raster has no nodata value.")
@prefer_local_option
@output_option(".tif")
def read(
    url: str,
    region: RegionOptions,
    resolution: float | None,
    max_size: int | None,
    bands: tuple[int, ...],
    nodata: float | None,
    prefer_local: bool,
    output: Path,
    overwrite: bool,
) -> None:
    """Copy part of a raster into a Cloud-Optimized GeoTIFF, with its colours, nodata and tags.

    Only the blocks that are needed are read, a few at a time, so the part may be larger than memory.
    Coarser pixels come from the overviews. With '-' the URL comes from stdin, as 'tsread search'
    prints it.

    \b
        tsread read URL -o island.tif --bbox 6.4 -0.1 6.8 0.5
        tsread read URL -o overview.tif --bbox 6 0 9 3 --max-size 1000
        tsread read URL -o park.tif --geometry park.geojson
    """
    if not region.given:
        raise click.UsageError("Missing option '--bbox', '--window' or '--geometry'.")
    if resolution is not None and max_size is not None:
        raise click.UsageError("give --resolution or --max-size, not both.")
    from rio_terrascope.analysis.cog import extract
    from rio_terrascope.cli.access import opened
    from rio_terrascope.cli.inputs import one_raster

    url = one_raster(url, prefer_local=prefer_local)
    with (
        output_file(output, overwrite=overwrite) as file,
        opened(url) as raster,
        Progress("Reading") as progress,
    ):
        extract(
            raster,
            file,
            region.of(raster.dataset),
            resolution=resolution,
            max_size=max_size,
            indexes=list(bands) or None,
            nodata=nodata,
            progress=progress.update,
        )
