"""``tsread worldcover``: copy part of ESA WorldCover into a file."""

from pathlib import Path

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.options import Box, bbox_option, resolution_option
from rio_terrascope.cli.output import Progress, output_file, output_option, say


@terrascope.command(short_help="Copy part of ESA WorldCover into a file.")
@bbox_option(help="Pixels that meet the box: west south east north, in degrees.", required=True, world=True)
@click.option("--year", type=click.Choice(["2020", "2021"]), default="2021", show_default=True)
@resolution_option(help="Maximum size of a pixel, in degrees.  [default: 1/12000]")
@click.option("--list", "only_list", is_flag=True, help="Print the tiles' URLs instead; needs no login.")
@output_option(".tif", required=False)
def worldcover(
    bbox: Box, year: str, resolution: float | None, only_list: bool, output: Path | None, overwrite: bool
) -> None:
    """Copy part of ESA WorldCover into a Cloud-Optimized GeoTIFF, across tile borders.

    Open sea has no tiles and becomes nodata. A box with west > east crosses the antimeridian.

    \b
        tsread worldcover --bbox 5.5 -0.5 8 2 --year 2021 -o gulf.tif
        tsread worldcover --bbox 5.5 -0.5 8 2 --list
    """
    if only_list and output is not None:
        raise click.UsageError("give --list or --output, not both.")
    if not only_list and output is None:
        raise click.UsageError("Missing option '-o' / '--output', or '--list'.")
    from rio_terrascope import worldcover as library

    urls = [tile.url for tile in library.tiles(bbox, int(year))]
    if output is None:
        click.echo("\n".join(urls))
        return
    from rio_terrascope.analysis.cog import write_worldcover
    from rio_terrascope.cli.access import access

    with (
        output_file(output, overwrite=overwrite) as file,
        access(*urls),
        Progress("Reading") as progress,
    ):
        write_worldcover(bbox, int(year), file, resolution=resolution, progress=progress.update)
        sea = [url for url in urls if url in library.known_sea()]  # forgotten on leaving
    if sea:
        names = ", ".join(url.rpartition("_Map")[0].rpartition("_")[2] for url in sea[:8])
        more = f" and {len(sea) - 8} more" if len(sea) > 8 else ""
        say(f"Not found (404), so written as nodata, like the sea: {names}{more}.")
