"""``tsread preview``: draw a picture."""

from pathlib import Path

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.options import RegionOptions, band_option, prefer_local_option, region_options
from rio_terrascope.cli.output import output_file, output_option


@terrascope.command(short_help="Draw a picture.")
@click.argument("url")
@region_options()
@click.option(
    "--size",
    type=click.IntRange(min=16, max=20000),
    default=1024,
    show_default=True,
    help="Pixels along the map's longer side.",
)
@band_option
@click.option(
    "--legend/--no-legend", default=True, help="Draw a map with legend and scale, or only the pixels."
)
@prefer_local_option
@output_option(".png")
def preview(
    url: str,
    region: RegionOptions,
    size: int,
    bands: tuple[int, ...],
    legend: bool,
    prefer_local: bool,
    output: Path,
    overwrite: bool,
) -> None:
    """Draw a raster, or part of a raster, from the overview that fits.

    A raster with a colour table is drawn in its own colours. Others are stretched between the 2nd and
    98th percentile of the values in the picture. The legend needs the [preview] extra, which is Pillow.
    With '-' the URL comes from stdin, as 'tsread search' prints it.

    \b
        tsread preview URL -o island.png --bbox 6.4 -0.1 6.8 0.5
        tsread preview URL -o pixels.png --no-legend --size 512
    """
    if len(bands) not in (0, 1, 3):
        raise click.UsageError(f"--band is given {len(bands)} times; a picture has one band, or three.")
    from rio_terrascope.analysis.preview import picture, require_pillow, write_map, write_plain
    from rio_terrascope.cli.access import opened
    from rio_terrascope.cli.inputs import one_raster

    if legend:
        require_pillow()
    url = one_raster(url, prefer_local=prefer_local)
    with output_file(output, overwrite=overwrite) as file, opened(url) as raster:
        drawn = picture(raster, region.of(raster.dataset), size=size, bands=list(bands) or None)
        if legend:
            write_map(drawn, raster.dataset, file, size=size)
        else:
            write_plain(drawn, file)
