"""How every command behaves: one line for an error, files that appear complete or not at all."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click


class Group(click.Group):
    """A group whose commands end with one line on stderr and exit code 1 when something goes wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises on purpose becomes a `click.ClickException`."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            if not _is_explained(error):
                raise
            message = " ".join(str(error).split())
            raise click.ClickException(message or type(error).__name__) from None


def _is_explained(error: Exception) -> bool:
    """Tell whether an error's message says all there is to say, so that a traceback would only scare."""
    from rasterio.errors import RasterioError, RasterioIOError

    from rio_terrascope.errors import TerrascopeError

    return isinstance(error, (TerrascopeError, RasterioError, RasterioIOError, ImportError, OSError))


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


@contextlib.contextmanager
def complete_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a path beside `path` to write to, and rename it when the block ends well.

    Parameters
    ----------
    path : Path
    overwrite : bool
        Whether a file that is there may be replaced.

    Yields
    ------
    Path
        With the same suffix, in the same folder, so that the rename is one step.

    Raises
    ------
    click.ClickException
        If the file is there and must not be replaced, or its folder cannot be written to.
    """
    if path.exists() and not overwrite:
        raise click.ClickException(f"{path} exists already. Next: name another file, or add --overwrite.")
    try:
        folder = tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise click.ClickException(f"cannot write to {path.parent}: {error.strerror}.") from None
    try:
        beside = Path(folder) / path.name
        yield beside
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            for left in Path(folder).iterdir():
                left.unlink()
            os.rmdir(folder)
