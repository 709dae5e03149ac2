"""Output files that appear complete or not at all, and replace nothing but a file."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str], folders: set[str] | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to, and put that file in place of `path` if the block succeeds.

    A new file gets the mode that the umask gives. An existing one keeps its mode and, if the user may do
    that, its owner. If `path` is a symbolic link, the file that it leads to is replaced. What is not a
    file, such as a device or a FIFO, is written to.

    Parameters
    ----------
    path : path-like
    folders : set of str, optional
        Holds the temporary folder while it exists.

    Yields
    ------
    Path
        A file of the same name in a new folder beside the file, so that it can be renamed in one step.
        The folder is removed at the end, with whatever else was written to it.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    try:
        existing = os.stat(path)
    except FileNotFoundError:
        existing = None
    replaces = existing is None or stat.S_ISREG(existing.st_mode)
    target = Path(os.path.realpath(path))
    folder = tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent if replaces else None)
    folders = set() if folders is None else folders
    folders.add(folder)
    try:
        whole = Path(folder) / Path(path).name
        yield whole
        if replaces:
            if existing is not None:
                _keep_owner_and_mode(whole, existing)
            os.replace(whole, target)
        else:
            # without O_CREAT and O_TRUNC: it must not become a file
            with open(whole, "rb") as source, open(os.open(path, os.O_WRONLY), "wb") as sink:
                shutil.copyfileobj(source, sink)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        folders.discard(folder)


def _keep_owner_and_mode(path: Path, existing: os.stat_result) -> None:
    if hasattr(os, "chown"):  # not on Windows
        with contextlib.suppress(OSError):  # only root may give files away
            os.chown(path, existing.st_uid, existing.st_gid)
    os.chmod(path, stat.S_IMODE(existing.st_mode))
