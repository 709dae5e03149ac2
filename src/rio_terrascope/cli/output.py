"""What commands show and write."""

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
    """click's progress bar on stderr; it appears after a second, and at a terminal only.

    A context manager. The library's functions take its `update` as ``progress``.

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
        """Show that `done` of `total` is done."""
        if not self._shown or total is None or time.monotonic() < self._from:
            return
        if self._bar is None:
            self._bar = click.progressbar(length=total, label=self._label, file=sys.stderr)
            self._bar.render_progress()
        self._bar.update(done - self._bar.pos)


def say(message: str) -> None:
    """Say something to the person, on stderr: stdout belongs to the data."""
    click.echo(message, err=True)


def _check_overwrite(ctx: click.Context, _param: click.Parameter, overwrite: bool) -> bool:
    if overwrite and str(ctx.params.get("output") or "-") == "-":
        raise click.UsageError("--overwrite needs -o with the name of a file.")
    return overwrite


# The command's -o must be eager, so that its value is known here.
overwrite_option = click.option(
    "--overwrite", is_flag=True, callback=_check_overwrite, help="Replace the file if it is there."
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
def output_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
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
            with_next_step("'-o -' would fill the terminal with bytes", "redirect stdout, or name a file")
        )
    if not to_stdout and path.exists() and not overwrite:
        raise click.ClickException(
            with_next_step(f"{path} exists already", "name another file, or add --overwrite")
        )
    parent = None if to_stdout else path.parent
    try:
        folder = tempfile.mkdtemp(prefix=f".{path.name}.", dir=parent)
    except OSError as error:
        raise click.ClickException(
            with_next_step(
                f"cannot write to {parent or 'the temporary folder'}: {error.strerror}",
                "name a file in a folder that you can write to"
                if parent
                else "make TMPDIR name a folder that can be written to",
            )
        ) from None
    unfinished_folders.add(folder)
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
        unfinished_folders.discard(folder)


@contextlib.contextmanager
def output_text(path: Path, *, overwrite: bool) -> Iterator[IO[str]]:
    """Open a text file that appears complete or not at all; ``-`` is stdout, written as it comes."""
    if str(path) == "-":
        with click.open_file("-", "w", encoding="utf-8") as stdout:
            yield stdout
        return
    with (
        output_file(path, overwrite=overwrite) as beside,
        open(beside, "w", encoding="utf-8", newline="") as file,
    ):
        yield file
