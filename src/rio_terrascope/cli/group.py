"""How every command behaves: one line for an error, files that appear complete or not at all."""

import contextlib
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import click

STOPPED = 128 + signal.SIGINT  # the exit code after Ctrl-C
PATIENCE = 1.0  # seconds that Ctrl-C leaves a command to end by itself; also before a bar is drawn

_unfinished: set[str] = set()  # folders with output that is not complete yet


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
            raise _in_one_line(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises on purpose becomes a `click.ClickException`."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _in_one_line(error) from None
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort):  # the second is what click makes of it at a prompt
            click.echo("Stopped.", err=True)
            ctx.exit(STOPPED)
        except BrokenPipeError:  # whoever read our output has enough of it, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes at exit
            ctx.exit(128 + signal.SIGPIPE)
        except Exception as error:
            from rio_terrascope.cli.errors import in_words

            logging.getLogger("rio_terrascope").debug("as it was raised:", exc_info=error)
            raise click.ClickException(in_words(error)) from None


def _in_one_line(error: click.UsageError) -> click.UsageError:
    """Say where the help is in the same line; click itself puts it above, with the usage."""
    message = " ".join(error.format_message().split())
    if not message.endswith((".", "?)")):
        message += "."
    where = f" See '{error.ctx.command_path} --help'." if error.ctx is not None else ""
    return click.UsageError(message + where)


@contextlib.contextmanager
def stops_at_once() -> Iterator[None]:
    """Let Ctrl-C, and SIGTERM, end the block even while GDAL waits for a server.

    Python raises KeyboardInterrupt only when the main thread is back from GDAL, which may take
    as long as GDAL's time-outs. So a thread is told of the signal as well, and ends the process
    if the block has not ended a second later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    over = threading.Event()

    def watch() -> None:
        while number := os.read(told, 1):
            if number[0] in (signal.SIGINT, signal.SIGTERM) and not over.wait(PATIENCE):
                _end_now(128 + number[0])

    def terminate(_number: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    previous_fd = signal.set_wakeup_fd(tell)
    previous = signal.signal(signal.SIGTERM, terminate)
    threading.Thread(target=watch, name="rio-terrascope-signals", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(previous_fd)
        signal.signal(signal.SIGTERM, previous)
        os.close(tell)  # which ends the thread


def _end_now(code: int) -> None:
    """End the process without waiting for anything, but leave nothing behind."""
    from rio_terrascope.gdal import header

    for folder in list(_unfinished):
        shutil.rmtree(folder, ignore_errors=True)
    header.close_header_files()
    if code == STOPPED:
        sys.stderr.write("\nStopped.\n")
        sys.stderr.flush()
    os._exit(code)


class Progress:
    """click's progress bar, on stderr, where that is a terminal and it takes longer than a second.

    A context manager; `tell` is what the library's functions take as ``progress``.

    Parameters
    ----------
    label : str
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Any = None
        self._from = time.monotonic() + PATIENCE
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.render_finish()

    def tell(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` is done."""
        if not self._shown or total is None or time.monotonic() < self._from:
            return
        if self._bar is None:
            self._bar = progress_bar(total, self._label)
            self._bar.render_progress()
        self._bar.update(done - self._bar.pos)


def progress_bar(length: int, label: str) -> Any:
    """Return click's progress bar on stderr; it is silent where stderr is no terminal.

    Parameters
    ----------
    length : int
        What 100 % is.
    label : str

    Returns
    -------
    context manager with ``update(n)``
    """
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())


def say(message: str) -> None:
    """Say something to the person, on stderr: stdout belongs to the data."""
    click.echo(message, err=True)


def _needs_a_file(ctx: click.Context, _param: click.Parameter, overwrite: bool) -> bool:
    if overwrite and str(ctx.params.get("output") or "-") == "-":
        raise click.UsageError("--overwrite needs -o with the name of a file.")
    return overwrite


# The command's -o must be eager, so that its value is known here.
overwrite_option = click.option(
    "--overwrite", is_flag=True, callback=_needs_a_file, help="Replace the file if it is there."
)


def output_option(suffix: str, *, default: str | None = None, required: bool = True) -> Callable[[Any], Any]:
    """Return the option ``-o`` with ``--overwrite``, spelled as rio spells them.

    Parameters
    ----------
    suffix : str
        The usual one, for the help text.
    default : str, optional
    required : bool
        Whether it has to be given where there is no default.
    """
    shown = " '-' is stdout." + ("  [default: -]" if default == "-" else "")
    # click takes a default of None for an answer, and then misses nothing
    given: dict[str, Any] = {"required": required} if default is None else {"default": default}
    output = click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
        metavar=f"OUT{suffix}",
        is_eager=True,
        help=f"The file to write.{shown}",
        **given,
    )
    return lambda command: output(overwrite_option(command))


@contextlib.contextmanager
def complete_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a path beside `path` to write to, and rename it when the block ends well.

    Parameters
    ----------
    path : Path
        ``-`` is stdout, to which the file is copied when it is complete.
    overwrite : bool
        Whether a file that is there may be replaced.

    Yields
    ------
    Path
        With the same suffix, in the same folder, so that the rename is one step. Whatever else is
        written into its folder is removed.

    Raises
    ------
    click.ClickException
        If the file is there and must not be replaced, or its folder cannot be written to.
    """
    to_stdout = str(path) == "-"
    if to_stdout and sys.stdout.isatty():
        raise click.UsageError(
            "'-o -' would fill the terminal with bytes. Next: redirect stdout, or name a file."
        )
    if not to_stdout and path.exists() and not overwrite:
        raise click.ClickException(f"{path} exists already. Next: name another file, or add --overwrite.")
    parent = None if to_stdout else path.parent
    try:
        folder = tempfile.mkdtemp(prefix=f".{path.name}.", dir=parent)
    except OSError as error:
        raise click.ClickException(
            f"cannot write to {parent or 'the temporary folder'}: {error.strerror}."
        ) from None
    _unfinished.add(folder)
    try:
        beside = Path(folder) / path.name
        yield beside
        if to_stdout:
            with open(beside, "rb") as complete:
                shutil.copyfileobj(complete, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            os.replace(beside, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unfinished.discard(folder)


@contextlib.contextmanager
def complete_text(path: Path, *, overwrite: bool) -> Iterator[IO[str]]:
    """Open a text file that appears complete or not at all; ``-`` is stdout, written as it comes."""
    if str(path) == "-":
        with click.open_file("-", "w", encoding="utf-8") as stdout:
            yield stdout
        return
    with (
        complete_file(path, overwrite=overwrite) as beside,
        open(beside, "w", encoding="utf-8", newline="") as file,
    ):
        yield file


def set_up_logging(verbose: int) -> None:
    """Log to stderr: warnings; with -v requests and what is done, twice everything; never a secret."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(_presentable)
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


def _presentable(record: logging.LogRecord) -> bool:
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
