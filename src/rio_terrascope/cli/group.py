"""How every command behaves: one line for an error, files that appear complete or not at all."""

import logging
import os
import re
import signal
import warnings
from typing import Any

import click

from rio_terrascope.cli.output import say
from rio_terrascope.cli.signals import STOPPED


class Group(click.Group):
    """A group whose commands end with one line on stderr when something goes wrong.

    The exit code is 1; 2 for a mistake in the arguments.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the group's own options, with mistakes in one line as `invoke` has them."""
        try:
            return super().parse_args(ctx, args)
        except click.exceptions.NoArgsIsHelpError:  # which is the help, not a mistake
            raise
        except click.UsageError as error:
            raise _with_help_hint(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises on purpose becomes a `click.ClickException`."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _with_help_hint(error) from None
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort):  # the second is what click makes of it at a prompt
            click.echo("Stopped.", err=True)
            ctx.exit(STOPPED)
        except BrokenPipeError:  # whoever read our output has enough of it, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes at exit
            ctx.exit(128 + signal.SIGPIPE)
        except Exception as error:
            from rio_terrascope.cli.errors import describe_error

            logging.getLogger("rio_terrascope").debug("as it was raised:", exc_info=error)
            raise click.ClickException(describe_error(error)) from None


def _with_help_hint(error: click.UsageError) -> click.UsageError:
    """Say where the help is in the same line; click itself puts it above, with the usage."""
    message = " ".join(error.format_message().split())
    if not message.endswith((".", "?)")):
        message += "."
    where = f" See '{error.ctx.command_path} --help'." if error.ctx is not None else ""
    return click.UsageError(message + where)


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


def set_up_logging(verbose: int) -> None:
    """Log to stderr: warnings; with -v requests and what is done, twice everything; never a secret."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(_without_secrets)
    logging.basicConfig(handlers=[handler])
    warnings.showwarning = _warn
    # rasterio says so of every picture and table of numbers
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.getLogger("rio_terrascope").setLevel(level)
    # rasterio logs each of GDAL's errors, which reach the user as exceptions anyway
    logging.getLogger("rasterio").setLevel(logging.DEBUG if verbose > 1 else logging.CRITICAL)
    # urllib3 warns of each try that it repeats
    logging.getLogger("urllib3.connectionpool").setLevel(logging.DEBUG if verbose else logging.ERROR)
    if verbose:
        # GDAL's requests come to rasterio's logger, the login's to urllib3's; see request_options
        logging.getLogger("rasterio._env").setLevel(logging.DEBUG)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    say(f"Warning: {message}")


def request_options() -> dict[str, str]:
    """Return the GDAL option that makes it tell its requests, where ``-v`` asks for them."""
    return {"CPL_DEBUG": "VSICURL"} if logging.getLogger("rasterio._env").level == logging.DEBUG else {}


def _without_secrets(record: logging.LogRecord) -> bool:
    """Let requests through, without what may be secret in them."""
    message = record.getMessage()
    if record.name == "rasterio._env" and logging.getLogger("rasterio").level == logging.CRITICAL:
        if "VSICURL: " not in message:
            return False
        message = message.partition("VSICURL: ")[2]
    # tokens are in no message; this is for the day that a library changes its mind
    message = re.sub(r"(?i)\b(bearer|basic)\s+\S+", r"\1 ***", message)
    # a signed URL is a secret of its own
    message = re.sub(r"(https?://[^\s?\"]+)\?[^\s)\"]+", r"\1?***", message)
    record.msg, record.args = message, ()
    return True
