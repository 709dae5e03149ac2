"""The command ``tsread``, also ``rio terrascope``: one file a family of commands.

The commands import what they need when they run, so that ``tsread --help`` answers at once.
"""

import logging

import click

from rio_terrascope.cli.demo import demo
from rio_terrascope.cli.manners import Group
from rio_terrascope.cli.sandbox import sandbox


@click.group(name="terrascope", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", count=True, help="Say what is done; twice: every request.")
@click.version_option(package_name="rio-terrascope", prog_name="tsread")
def terrascope(verbose: int) -> None:
    """Read Terrascope's protected rasters.

    A username and password are taken from TERRASCOPE_USERNAME and TERRASCOPE_PASSWORD, or from
    ~/.netrc. To try things without an account, start with:

    \b
        tsread demo
    """
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    # rasterio logs each of GDAL's errors, which reach the user as exceptions anyway
    logging.getLogger("rasterio").setLevel(max(level, logging.ERROR) if verbose < 2 else level)
    logging.getLogger("rio_terrascope").setLevel(level)


for command in (demo, sandbox):
    terrascope.add_command(command)


def main() -> None:
    """Run ``tsread``."""
    terrascope(prog_name="tsread")
