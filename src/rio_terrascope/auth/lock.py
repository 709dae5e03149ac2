"""A lock that all processes and threads of a user respect, on any file system.

flock is not enough. On cluster file systems (NFS with `local_lock`, Lustre with `localflock`) it succeeds
and locks nothing on other machines, and some systems do not have it. So the lock is a file that only
one process can make (O_EXCL). It names its owner, a process that touches it every second.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from rio_terrascope.errors import TokenEndpointError
from rio_terrascope.threads import Signal, start_thread

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

TOUCH_SECONDS = 1.0
SHORTEST_SECONDS = 5.0  # an owner may stand still for that long, whatever the timeout of others is
SAY_SECONDS = 3.0  # if the wait is longer, the log says which process holds the lock
COARSE_SECONDS = 2.0  # the longest step of a file system's clock (FAT)
_POLL_SECONDS = 0.1


class SharedLock:
    """A lock in a folder, held inside a ``with`` block.

    A file whose owner has died, or has not touched it for `seconds`, is taken over: its process was
    stopped, or its machine is gone.

    Parameters
    ----------
    folder : Path
        It holds two files: ``lock.owner`` while the lock is held, and an empty ``lock`` that stays.
    seconds : float
        The longest time that an owner may stand still, but `SHORTEST_SECONDS` at least. A caller waits a
        moment longer.

    Raises
    ------
    TokenEndpointError
        On entering: another owner still holds the lock.
    OSError
        On entering: the folder cannot be written to.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._owner_file = folder / "lock.owner"
        self._guard_file = folder / "lock"
        self._seconds = seconds
        self._id = ""
        self._released = Signal()

    def __enter__(self) -> Self:
        try:
            self._acquire(time.monotonic() + self._seconds + COARSE_SECONDS)
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    @property
    def is_mine(self) -> bool:
        """Whether this process still holds the lock: while it was stopped, another may have taken it."""
        return bool(self._id) and self._owner().get("id") == self._id

    def _acquire(self, deadline: float) -> None:
        if not _in_process.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self._still_held("another thread of this process")
        say_at = time.monotonic() + SAY_SECONDS
        while not self._try():
            owner = self._owner()
            name = f"process {owner.get('pid')} on {str(owner.get('host', '?')).split()[0]}"
            if time.monotonic() >= deadline:
                raise self._still_held(name)
            if time.monotonic() >= say_at:
                say_at = deadline  # once
                log.warning("waiting for %s, which is using the saved login", name)
            time.sleep(_POLL_SECONDS)
        start_thread(threading.Thread(target=self._keep_touching, name="rio-terrascope-lock", daemon=True))

    def _try(self) -> bool:
        """Make the file, and take it over if its owner is gone."""
        with _guard(self._guard_file):
            try:
                descriptor = os.open(self._owner_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                owner = self._owner()
                if not (_has_ended(owner) or self._stands_still()):
                    return False
                self._move_away(owner)
                return False  # the next attempt makes the file, or finds that another process was faster
            with open(descriptor, "w", encoding="utf-8") as file:
                self._id = secrets.token_hex(8)
                _made_here.add(self._id)
                me = {"id": self._id, "host": _host(), "pid": os.getpid(), "started": _started(os.getpid())}
                json.dump(me, file)
        return self.is_mine

    def _stands_still(self) -> bool:
        """Tell whether the owner has not touched its file for too long, by the file system's own clock."""
        with contextlib.suppress(OSError):  # the file is gone
            os.utime(self._guard_file)
            age = self._guard_file.stat().st_mtime - self._owner_file.stat().st_mtime
            return age >= max(self._seconds, SHORTEST_SECONDS)
        return False

    def _move_away(self, owner: dict[str, Any]) -> None:
        """Rename the file of an owner that is gone. Of several processes, one succeeds."""
        away = self._owner_file.with_name(f"lock.{secrets.token_hex(8)}")
        try:
            self._owner_file.rename(away)
        except OSError:  # another process was faster
            return
        if self._owner(away) != owner:
            # Without a working flock, another process may have taken the lock over in between. Give it
            # back. If that fails, its owner finds out, and does not save.
            with contextlib.suppress(OSError):
                os.link(away, self._owner_file)
        else:
            log.info("took the lock of the saved login over from process %s", owner.get("pid"))
        away.unlink(missing_ok=True)

    def _owner(self, file: Path | None = None) -> dict[str, Any]:
        """Return what the file says about its owner; nothing if it is gone, or not written yet."""
        try:
            owner = json.loads((file or self._owner_file).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return owner if isinstance(owner, dict) else {}

    def _keep_touching(self) -> None:
        while not self._released.wait(TOUCH_SECONDS):
            with contextlib.suppress(OSError):
                if self.is_mine:
                    os.utime(self._owner_file)

    def _release(self) -> None:
        """Remove the file. May be called again, and with the lock not acquired."""
        self._released.set()
        with contextlib.suppress(OSError), _guard(self._guard_file):
            if self.is_mine and self._owner().get("pid") == os.getpid():  # not in a forked child
                self._owner_file.unlink()
        try:  # noqa: SIM105 - fewer steps at which Ctrl-C can come
            _in_process.release()
        except RuntimeError:  # this thread does not hold it
            pass

    def _still_held(self, by: str) -> TokenEndpointError:
        return TokenEndpointError(
            f"{by} has been using the saved login for more than {self._seconds:.0f} s",
            next_step="wait for it, or end it, and try again",
        )


_in_process = threading.RLock()  # an RLock knows which thread holds it, see TokenSource._alone
_made_here: set[str] = set()


def _has_ended(owner: dict[str, Any]) -> bool:
    """Tell whether the owner's process has ended, as far as this machine can know."""
    pid = owner.get("pid")
    if owner.get("host") != _host() or not isinstance(pid, int) or pid <= 0:
        return False
    if pid == os.getpid():  # the caller holds `_in_process`: Ctrl-C kept this thread from removing the file
        return owner.get("id") in _made_here
    if sys.platform == "win32":  # there, os.kill would end it
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's
        pass
    started = _started(pid)
    return None not in (started, owner.get("started")) and started != owner["started"]


def _started(pid: int) -> str | None:
    """Return when a process was started, since systems use numbers again. None if it cannot be known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _host() -> str:
    """Name the machine, its boot, and its space of process numbers: containers may share a host's name."""
    parts = [socket.gethostname() or "?"]
    with contextlib.suppress(OSError):  # not Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


@contextlib.contextmanager
def _guard(file: Path) -> Iterator[None]:
    """Hold flock on a file for the moment that it takes to look and act, if flock works there.

    It makes looking at the owner and taking over one step for all processes of a machine. It is never
    held over a request, and a process that was stopped with it does not hold up others for long.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        until = time.monotonic() + 1.0
        while fcntl is not None and time.monotonic() < until:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.005)
            except OSError:  # not on this file system
                break
        yield
    finally:
        os.close(descriptor)


def _after_fork_in_child() -> None:
    global _in_process
    _in_process = threading.RLock()  # a thread of the parent may have held it


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
