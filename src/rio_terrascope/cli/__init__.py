"""The command ``tsread``, also ``rio terrascope``: one file a family of commands.

The commands import what they need when they run, so that ``tsread --help`` answers at once.
"""

import click

from rio_terrascope.cli import (
    demo,
    doctor,
    exec,
    info,
    login,
    preview,
    read,
    sample,
    sandbox,
    search,
    stats,
    worldcover,
)
from rio_terrascope.cli.group import Group, set_up_logging


@click.group(name="terrascope", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", count=True, help="Show requests; twice: everything. Never a secret.")
@click.version_option(package_name="rio-terrascope", prog_name="tsread")
def terrascope(verbose: int) -> None:
    """Read Terrascope's protected rasters.

    The login is taken from TERRASCOPE_USERNAME and TERRASCOPE_PASSWORD, from what 'tsread login' has
    saved, or from ~/.netrc; at a terminal it is asked for. Data comes on stdout, talk on stderr.
    To try things without an account, start with:

    \b
        tsread demo
    """
    set_up_logging(verbose)


for family in (login, search, info, read, worldcover, sample, stats, preview, exec, doctor, sandbox, demo):
    for command in family.commands:
        terrascope.add_command(command)


def main() -> None:
    """Run ``tsread``."""
    terrascope(prog_name="tsread")
