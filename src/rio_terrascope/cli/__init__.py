"""The command ``tsread``, also ``rio terrascope``.

To add a command, write a file with one function, decorated with ``@terrascope.command()``, and add
the file's name to the import below: importing the file registers the command. A command imports what
it needs inside its function, so that ``tsread --help`` answers at once. No command imports another.
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
