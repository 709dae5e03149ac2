"""The group of commands: how an error ends a command, and what is logged."""

import logging
import os
import re
import signal
import warnings
from typing import Any

import click

from rio_terrascope.cli.output import printable, say
from rio_terrascope.cli.signals import STOPPED


class Group(click.Group):
    """A group whose commands report an error as one line on stderr.

    The exit code is 1, or 2 for a mistake in the arguments.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the group's own options; mistakes are reported as in `invoke`."""
        try:
            return super().parse_args(ctx, args)
        except click.exceptions.NoArgsIsHelpError:  # shows the help
            raise
        except click.UsageError as error:
            raise _with_help_hint(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; any error becomes a `click.ClickException`."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _with_help_hint(error) from None
        except click.exceptions.Exit:
            raise
        except click.ClickException as error:
            raise click.ClickException(printable(error.format_message())) from None
        except (KeyboardInterrupt, click.Abort):  # click raises Abort for Ctrl-C at a prompt
            click.echo("Stopped.", err=True)
            ctx.exit(STOPPED)
        except BrokenPipeError:  # the reader has closed our stdout, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the flush at exit fails too
            ctx.exit(128 + signal.SIGPIPE)
        except Exception as error:
            from rio_terrascope.cli.errors import describe_error

            logging.getLogger("rio_terrascope").debug("the original error:", exc_info=error)
            raise click.ClickException(printable(describe_error(error))) from None


def _with_help_hint(error: click.UsageError) -> click.UsageError:
    """Return the error with the hint at --help in the same line; click prints that hint above."""
    message = printable(" ".join(error.format_message().split()))
    if not message.endswith((".", "?)")):
        message += "."
    hint = f" See '{error.ctx.command_path} --help'." if error.ctx is not None else ""
    return click.UsageError(message + hint)


@click.group(name="terrascope", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", count=True, help="Log requests; -vv logs everything. Secrets are left out.")
@click.version_option(package_name="rio-terrascope", prog_name="tsread")
def terrascope(verbose: int) -> None:
    """Read Terrascope's protected rasters.

    The login comes from TERRASCOPE_USERNAME and TERRASCOPE_PASSWORD, from 'tsread login', or from
    ~/.netrc; at a terminal, tsread asks for it. Data goes to stdout, messages to stderr. To try tsread
    without an account, start with:

    \b
        tsread demo
    """
    set_up_logging(verbose)


def set_up_logging(verbose: int) -> None:
    """Log warnings to stderr, with -v also requests, with -vv everything. Secrets are left out."""
    handler = logging.StreamHandler()
    handler.setFormatter(_WithoutSecrets("%(levelname)s: %(message)s"))
    handler.addFilter(_requests_only)
    logging.basicConfig(handlers=[handler])
    warnings.showwarning = _warn
    # rasterio warns about every picture and every plain array
    warnings.filterwarnings("ignore", message="Dataset has no geotransform")
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.getLogger("rio_terrascope").setLevel(level)
    # rasterio logs GDAL's errors, which the user sees as exceptions anyway
    logging.getLogger("rasterio").setLevel(logging.DEBUG if verbose > 1 else logging.CRITICAL)
    # urllib3 warns about each retry
    logging.getLogger("urllib3.connectionpool").setLevel(logging.DEBUG if verbose else logging.ERROR)
    if verbose:
        # rasterio logs GDAL's requests (see request_options), urllib3 those of the login
        logging.getLogger("rasterio._env").setLevel(logging.DEBUG)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    say(f"Warning: {message}")


def request_options() -> dict[str, str]:
    """Return the GDAL option that makes GDAL log its requests, if ``-v`` is given."""
    return {"CPL_DEBUG": "VSICURL"} if logging.getLogger("rasterio._env").level == logging.DEBUG else {}


class _WithoutSecrets(logging.Formatter):
    """Cuts URLs to host and path, in tracebacks too. The query of a signed URL is a secret."""

    def format(self, record: logging.LogRecord) -> str:
        from rio_terrascope.settings import shown

        # no library logs tokens today; this is for the day that one does
        text = re.sub(r"(?i)\b(bearer|basic)\s+\S+", r"\1 ***", super().format(record))
        # urllib3 logs the path and the query without the host
        return printable(re.sub(r"(/[^\s'\"?]+)\?[^\s'\"]+", r"\1?***", shown(text)))


def _requests_only(record: logging.LogRecord) -> bool:
    """Drop GDAL's debug messages that are not requests, unless everything is logged."""
    if record.name == "rasterio._env" and logging.getLogger("rasterio").level == logging.CRITICAL:
        message = record.getMessage()
        if "VSICURL: " not in message:
            return False
        record.msg, record.args = message.partition("VSICURL: ")[2], ()
    return True
