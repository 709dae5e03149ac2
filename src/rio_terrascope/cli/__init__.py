"""The command ``tsread``, also ``rio terrascope``.

To add a command, write one file with one function, and add its name to the import below: the
function's decorator, ``@terrascope.command()``, adds it to the group. Commands import what they need
when they run, so that ``tsread --help`` answers at once; no command imports another.
"""

from rio_terrascope.cli import (  # noqa: F401
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
from rio_terrascope.cli.group import terrascope


def main() -> None:
    """Run ``tsread``."""
    terrascope(prog_name="tsread")
