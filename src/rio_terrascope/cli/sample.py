"""``tsread sample``: values at points."""

import csv
from pathlib import Path

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.options import band_option, known_crs
from rio_terrascope.cli.output import Progress, output_option, output_text
from rio_terrascope.errors import with_next_step


@terrascope.command(short_help="Read the values at points.")
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.argument("points_file", metavar="POINTS")
@click.option(
    "--crs",
    callback=known_crs,
    help="CRS of the points.  [default: EPSG:4326 for lon/lat and GeoJSON]",
)
@click.option(
    "--column", default="value", show_default=True, help="Name of the new column; several bands are numbered."
)
@band_option
@output_option(".csv", default="-")
def sample(
    urls: tuple[str, ...],
    points_file: str,
    crs: str | None,
    column: str,
    bands: tuple[int, ...],
    output: Path,
    overwrite: bool,
) -> None:
    """Read values at the points of a CSV or GeoJSON file, and write them as CSV; '-' is stdin.

    A CSV file has columns lon and lat (or longitude and latitude), or x and y, which need --crs. All
    its columns are kept, and 'value' is added, or 'value_1', 'value_2' ... for several bands. The
    value is empty if there is no data. If a point lies in several rasters, the first one counts.

    Cells are passed on unchanged. A spreadsheet takes those that begin with = + - or @ for formulas, so
    import a file with cells that you do not trust as text.

    \b
        tsread sample URL points.csv -o values.csv
        tsread sample URL_2020 points.csv --column 2020 | tsread sample URL_2021 - --column 2021
    """
    from rio_terrascope.analysis.vector import read_points
    from rio_terrascope.cli.access import access
    from rio_terrascope.reading import sample as sample_rasters

    points = read_points(points_file, crs=crs)
    if bands:  # otherwise the number of new columns is known only after reading
        _new_columns(column, len(bands), points.columns)
    with output_text(output, overwrite=overwrite) as file:
        with access(*urls), Progress("Sampling") as progress:
            values = sample_rasters(
                urls,
                points.coordinates,
                crs=points.crs,
                indexes=list(bands) or None,
                progress=progress.update,
            )
        names = _new_columns(column, values.shape[1], points.columns)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*points.columns, *names])
        # converted to text at once: reading a masked array value by value is slow
        written = values.data.astype(str)
        written[values.mask] = ""
        writer.writerows([*row, *cells] for row, cells in zip(points.rows, written.tolist(), strict=True))


def _new_columns(column: str, count: int, existing: list[str]) -> list[str]:
    """Return the names of the columns to add; refuse those that the points already have."""
    names = [column] if count == 1 else [f"{column}_{number}" for number in range(1, count + 1)]
    if taken := sorted(set(names) & set(existing)):
        raise click.UsageError(
            with_next_step(f"the points already have a column {taken[0]!r}", "name another with --column")
        )
    return names
