"""The file with the Authorization line that GDAL reads at every request."""

import contextlib
import logging
import os
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path

from rio_terrascope.errors import SettingsError
from rio_terrascope.private_file import replace_private_file

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

# the only names in the folder, but for what `replace_private_file` leaves when its process is killed
_HEADER, _CONFIG = "header", "gdalrc"


class HeaderFile:
    """A file with the Authorization line, private to the user, that GDAL reads at every request.

    The file is in a folder of its own (0700): under XDG_RUNTIME_DIR if that is set, which is private and
    in memory, else under the temporary folder. The process locks the folder for as long as it lives. A
    folder without a lock was left by a killed process, and the next process removes it.

    Raises
    ------
    SettingsError
        If neither folder can be written to.
    """

    _PREFIX = ".rio-terrascope-header-"

    def __init__(self) -> None:
        sweep()
        self.folder, self._lock = _private_folder(self._PREFIX)
        self.path = self.folder / _HEADER
        self._cleanup = weakref.finalize(self, _remove, self.folder, self._lock, os.getpid())
        _header_files.add(self)

    def write(self, access_token: str) -> None:
        """Replace the token in one step: a request finds the old line or the new one.

        Raises
        ------
        OSError
            If it cannot be written, for example because the disk is full. The old line stays then.
        """
        replace_private_file(self.path, f"Authorization: Bearer {access_token}\n")

    def write_config(self, text: str) -> Path:
        """Write a file for GDAL_CONFIG_FILE to name, beside the token's. `close` removes it too.

        Raises
        ------
        OSError
            If it cannot be written, for example because the disk is full.
        """
        path = self.folder / _CONFIG
        replace_private_file(path, text)
        return path

    def close(self) -> None:
        """Remove the file and its folder. In a forked child, this leaves the parent's alone."""
        self._cleanup()

    def disown(self) -> None:
        """Release the parent's folder in a forked child, so that only the parent locks it."""
        self._cleanup.detach()
        if self._lock is not None:
            os.close(self._lock)


_header_files: "weakref.WeakSet[HeaderFile]" = weakref.WeakSet()


def close_header_files() -> None:
    """Remove all header files of this process, before it ends without cleaning up."""
    for header_file in list(_header_files):
        header_file.close()


def _folders_for_secrets() -> Iterable[Path]:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield Path(runtime)
    with contextlib.suppress(FileNotFoundError):  # no temporary folder is usable
        yield Path(tempfile.gettempdir())


def _private_folder(prefix: str) -> tuple[Path, int | None]:
    """Make a folder (0700) and lock it."""
    trouble = []
    for parent in _folders_for_secrets():
        for _ in range(10):  # in rare cases another process sweeps the new folder before it is locked
            try:
                folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            except OSError as error:
                trouble.append(f"{parent} ({error.strerror})")
                break
            lock = _try_lock(folder)
            if folder.is_dir() and (lock is not None or fcntl is None):
                return folder, lock
    raise SettingsError(
        "no folder to keep the token in for GDAL: tried "
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
    """Remove a header file and its folder, unless the folder holds anything else."""
    if os.getpid() != owner:
        return
    with contextlib.suppress(OSError):
        for name in (_HEADER, _CONFIG):
            (folder / name).unlink(missing_ok=True)
            (folder / f"{name}.next").unlink(missing_ok=True)
        folder.rmdir()
    if lock is not None:
        os.close(lock)


def sweep() -> None:
    """Remove the folders that killed processes have left behind."""
    if fcntl is None:  # pragma: no cover - Windows
        return
    for parent in _folders_for_secrets():
        for folder in parent.glob(f"{HeaderFile._PREFIX}*"):
            with contextlib.suppress(OSError):
                if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                    continue
                lock = _try_lock(folder)
                if lock is not None:
                    _remove(folder, lock, os.getpid())
                    log.info("removed %s, which a killed process had left behind", folder)
