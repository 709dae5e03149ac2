"""Messages and progress bars on stderr, and output files that appear complete or not at all."""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Self

import click

from rio_terrascope.analysis.outputs import written_whole
from rio_terrascope.cli.signals import unfinished_folders
from rio_terrascope.errors import with_next_step

BEFORE_THE_BAR = 1.0  # seconds


class Progress:
    """A progress bar on stderr. It appears after a second, and only at a terminal.

    A context manager; its `update` is passed to the library's functions as ``progress``.

    Parameters
    ----------
    label : str
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Any = None
        self._from = time.monotonic() + BEFORE_THE_BAR
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.render_finish()

    def update(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` is done; an unknown total shows nothing."""
        if not self._shown or total is None or time.monotonic() < self._from:
            return
        if self._bar is None:
            self._bar = click.progressbar(length=total, label=self._label, file=sys.stderr)
            self._bar.render_progress()
        self._bar.update(done - self._bar.pos)


def printable(text: str) -> str:
    """Return a text without control characters, so that what a server sends cannot command the terminal.

    A terminal obeys escape sequences in whatever is printed: they set its title, or the clipboard.
    """
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def show(text: str) -> None:
    """Print text on stdout that may come from a server or a file."""
    click.echo(printable(text))


def say(message: str) -> None:
    """Print a message on stderr; stdout is for data."""
    click.echo(printable(message), err=True)


def _check_overwrite(ctx: click.Context, _param: click.Parameter, overwrite: bool) -> bool:
    if overwrite and str(ctx.params.get("output") or "-") == "-":
        raise click.UsageError("--overwrite needs -o with the name of a file.")
    return overwrite


# A command's -o must be eager, so that `_check_overwrite` knows its value.
overwrite_option = click.option(
    "--overwrite", is_flag=True, callback=_check_overwrite, help="Replace an existing file."
)


def output_option(suffix: str, *, default: str | None = None, required: bool = True) -> Callable[[Any], Any]:
    """Return the options ``-o`` and ``--overwrite``, spelled as in rio.

    Parameters
    ----------
    suffix : str
        The usual suffix, for the help text.
    default : str, optional
    required : bool
        Whether a value must be given if there is no default.
    """
    shown = "  [default: -]" if default == "-" else ""
    # with default=None click would never report the option as missing
    given: dict[str, Any] = {"required": required} if default is None else {"default": default}
    output = click.option(
        "-o",
        "--output",
        type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
        metavar=f"OUT{suffix}",
        is_eager=True,
        help=f"File to write, or '-' for stdout.{shown}",
        **given,
    )
    return lambda command: output(overwrite_option(command))


@contextlib.contextmanager
def output_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary path to write to, and put that file in place of `path` if the block succeeds.

    Parameters
    ----------
    path : Path
        ``-`` is stdout; the complete file is copied to it. A device or a FIFO is written to in the same way.
    overwrite : bool
        Whether an existing file may be replaced.

    Yields
    ------
    Path
        As `written_whole` does.

    Raises
    ------
    click.ClickException
        If the file exists and may not be replaced, or cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            whole = stack.enter_context(_to_stdout() if str(path) == "-" else _to_file(path, overwrite))
        except OSError as error:
            to_stdout = str(path) == "-"
            what = f"cannot write to {'the temporary folder' if to_stdout else path.parent}: {error.strerror}"
            advice = "set TMPDIR to" if to_stdout else "name a file in"
            raise click.ClickException(
                with_next_step(what, f"{advice} a folder that you can write to")
            ) from None
        yield whole


@contextlib.contextmanager
def _to_stdout() -> Iterator[Path]:
    if sys.stdout.isatty():
        raise click.UsageError(
            with_next_step("'-o -' would fill the terminal with bytes", "redirect stdout, or name a file")
        )
    with tempfile.TemporaryDirectory(prefix=".tsread-", ignore_cleanup_errors=True) as folder:
        unfinished_folders.add(folder)
        try:
            whole = Path(folder) / "stdout"
            yield whole
            with open(whole, "rb") as complete:
                shutil.copyfileobj(complete, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        finally:
            unfinished_folders.discard(folder)


def _to_file(path: Path, overwrite: bool) -> contextlib.AbstractContextManager[Path]:
    if not overwrite and path.exists() and not (path.is_fifo() or path.is_char_device()):
        raise click.ClickException(
            with_next_step(f"{path} already exists", "name another file, or add --overwrite")
        )
    return written_whole(path, unfinished_folders)


@contextlib.contextmanager
def output_text(path: Path, *, overwrite: bool) -> Iterator[IO[str]]:
    """Open a text file that appears complete or not at all; ``-`` is stdout, written to directly."""
    if str(path) == "-":
        with click.open_file("-", "w", encoding="utf-8") as stdout:
            yield stdout
        return
    with (
        output_file(path, overwrite=overwrite) as temporary,
        open(temporary, "w", encoding="utf-8", newline="") as file,
    ):
        yield file
