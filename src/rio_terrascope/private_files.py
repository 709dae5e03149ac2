"""Files that only their owner can read: replaced whole, and removed when their process has ended."""

import contextlib
import logging
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

from rio_terrascope.errors import SettingsError
from rio_terrascope.secret import Secret

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

_PREFIX = ".rio-terrascope-header-"
# the only names in such a folder, but for those that `replace_private_file` leaves if its process is killed
_NAMES = ("header", "gdalrc")


def replace_private_file(path: Path, text: str | Secret) -> None:
    """Write a file (0600) in one step: a reader finds the old text or the new one, never a part.

    The caller makes sure that only one process writes it at a time.

    Raises
    ------
    OSError
        If it cannot be written, for example because the disk is full. The old file is then unchanged.
    """
    new = path.with_name(f"{path.name}.next")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text.reveal() if isinstance(text, Secret) else text)
    new.replace(path)


class PrivateFolder:
    """A folder (0700) for secrets, which other programs can read while this process lives.

    It is under XDG_RUNTIME_DIR if that is set, which is private and in memory, else under the temporary
    folder. The process locks the folder. A folder without a lock was left by a killed process, and the
    next `PrivateFolder` removes it.

    Raises
    ------
    SettingsError
        If neither folder can be written to.
    """

    def __init__(self) -> None:
        sweep()
        self.path, lock = _make_folder()
        self._cleanup = weakref.finalize(self, _remove, self.path, lock, os.getpid())

    def write(self, name: str, text: str | Secret) -> Path:
        """Write a file ("header" or "gdalrc") in one step, and return its path.

        Raises
        ------
        OSError
            As `replace_private_file` does.
        """
        replace_private_file(self.path / name, text)
        return self.path / name

    def close(self) -> None:
        """Remove the folder. In a forked child, this leaves the parent's alone."""
        self._cleanup()


def _parents() -> Iterator[Path]:
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    if runtime.is_absolute():  # the specification wants relative paths ignored
        yield runtime
    with contextlib.suppress(FileNotFoundError):  # no temporary folder is usable
        yield Path(tempfile.gettempdir())


def _make_folder() -> tuple[Path, int | None]:
    """Make a folder (0700) and lock it."""
    trouble = []
    for parent in _parents():
        for _ in range(10):  # in rare cases another process sweeps the new folder before it is locked
            try:
                folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            except OSError as error:
                trouble.append(f"{parent} ({error.strerror})")
                break
            lock = _try_lock(folder)
            if folder.is_dir() and (lock is not None or fcntl is None):
                return folder, lock
    raise SettingsError(
        "no folder to keep the token in for the program: tried "
        f"{', '.join(trouble) or 'none, as there is no temporary folder'}",
        next_step="make TMPDIR name a folder that can be written to",
    )


def _try_lock(folder: Path) -> int | None:
    """Lock a folder for as long as this process lives. None if another process has locked it."""
    if fcntl is None:  # pragma: no cover - Windows
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(folder: Path, lock: int | None, owner: int) -> None:
    """Remove a folder and its files, unless it holds anything else."""
    if os.getpid() != owner:
        return
    with contextlib.suppress(OSError):
        for name in _NAMES:
            (folder / name).unlink(missing_ok=True)
            (folder / f"{name}.next").unlink(missing_ok=True)
        folder.rmdir()
    if lock is not None:
        os.close(lock)


def sweep() -> None:
    """Remove the folders that killed processes have left behind."""
    if fcntl is None:  # pragma: no cover - Windows
        return
    for parent in _parents():
        for folder in parent.glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                    continue
                lock = _try_lock(folder)
                if lock is not None:
                    _remove(folder, lock, os.getpid())
                    log.info("removed %s, which a killed process had left behind", folder)
