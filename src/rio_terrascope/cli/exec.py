"""``tsread exec``: access to Terrascope for any GDAL program."""

import os
import signal

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.output import say
from rio_terrascope.errors import with_next_step


@terrascope.command(
    name="exec",
    short_help="Run a GDAL program with access.",
    context_settings={"allow_interspersed_args": False},  # options after the program are the program's
)
@click.option("--all-hosts", is_flag=True, help="For GDAL older than 3.7: send the token to every host.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def execute(ctx: click.Context, all_hosts: bool, command: tuple[str, ...]) -> None:
    """Run a program built on GDAL, with access to Terrascope while it runs.

    The token is kept fresh in a file that only you can read, never in an argument or the environment;
    a password in the environment is not passed on. GDAL sends the token to Terrascope's origins only.
    But if Terrascope itself redirects a request, GDAL may send the token to the other host: after a 301, or
    if that host refuses HEAD requests. 'tsread doctor URL' finds out; the other commands do not.

    Your own GDAL_CONFIG_FILE (or ~/.gdal/gdalrc) and GDAL options still apply. The exit code and
    signals are the program's.

    \b
        tsread exec -- gdalinfo /vsicurl/https://services.terrascope.be/download/....tif
        tsread exec -- qgis
    """
    from rio_terrascope.cli.access import token_source
    from rio_terrascope.programs import run
    from rio_terrascope.settings import Settings

    try:
        _check_program(command[0])
        if all_hosts:
            say(
                "Warning: with --all-hosts every host that the program contacts receives your token, and can "
                "read Terrascope as you until it expires. GDAL 3.7 and later do not need this option."
            )
        code = run(command, token_source(Settings.from_environ()), all_hosts=all_hosts)
    except FileNotFoundError:
        say(with_next_step(f"Error: {command[0]}: there is no such program", "check its name and PATH"))
        ctx.exit(127)  # as shells do
    except PermissionError:
        say(
            with_next_step(
                f"Error: {command[0]} cannot be run: permission denied",
                "make it executable, or name a program",
            )
        )
        ctx.exit(126)
    if code < 0:
        _end_by(-code)
    ctx.exit(code)


def _check_program(program: str) -> None:
    """Raise what `subprocess.Popen` would raise, before a login is asked for."""
    folders = [""] if os.path.dirname(program) else os.get_exec_path()
    found = [path for folder in folders if os.path.exists(path := os.path.join(folder, program))]
    if not found:
        raise FileNotFoundError
    if not any(os.path.isfile(path) and os.access(path, os.X_OK) for path in found):
        raise PermissionError


def _end_by(number: int) -> None:
    """End by the signal that ended the program, so that a calling script sees it too."""
    if number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    raise click.exceptions.Exit(128 + number)
