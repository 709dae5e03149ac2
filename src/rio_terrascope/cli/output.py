"""Messages and progress bars on stderr, and output files that appear complete or not at all."""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Self

import click

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


def say(message: str) -> None:
    """Print a message on stderr; stdout is for data."""
    click.echo(message, err=True)


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
    """Yield a temporary path to write to, and rename that file to `path` if the block succeeds.

    Parameters
    ----------
    path : Path
        ``-`` is stdout; the complete file is copied to it.
    overwrite : bool
        Whether an existing file may be replaced.

    Yields
    ------
    Path
        A file of the same name in a new folder beside `path`, so that the rename is atomic. The
        folder is removed at the end, with whatever else was written to it.

    Raises
    ------
    click.ClickException
        If the file exists and may not be replaced, or the folder cannot be written to.
    """
    to_stdout = str(path) == "-"
    if to_stdout and sys.stdout.isatty():
        raise click.UsageError(
            with_next_step("'-o -' would fill the terminal with bytes", "redirect stdout, or name a file")
        )
    if not to_stdout and path.exists() and not overwrite:
        raise click.ClickException(
            with_next_step(f"{path} already exists", "name another file, or add --overwrite")
        )
    parent = None if to_stdout else path.parent
    try:
        folder = tempfile.mkdtemp(prefix=f".{path.name}.", dir=parent)
    except OSError as error:
        what = f"cannot write to {parent or 'the temporary folder'}: {error.strerror}"
        advice = "name a file in" if parent else "set TMPDIR to"
        raise click.ClickException(with_next_step(what, f"{advice} a folder that you can write to")) from None
    unfinished_folders.add(folder)
    try:
        temporary = Path(folder) / path.name
        yield temporary
        if to_stdout:
            with open(temporary, "rb") as complete:
                shutil.copyfileobj(complete, sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unfinished_folders.discard(folder)


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
