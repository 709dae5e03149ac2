"""Waiting until no other thread is inside GDAL, so that a process can be forked.

A forked child has a copy of GDAL's locks, and of its notes of which bytes are being fetched. No thread
there will open a lock that another thread of the parent held, or bring those bytes: it would hang.
"""

import ctypes
import os
import sys
import threading
import time
from types import FrameType

LIMIT = 0.5  # seconds; a thread that a server keeps waiting for longer stays inside
_STEP = 2_000  # microseconds
_STANDARD_LIBRARY = os.path.dirname(os.__file__)

_switch_interval: float | None = None  # Python's own, while `others_have_left` holds


def wait_until_others_have_left() -> None:
    """Keep Python's lock (the GIL) until other threads have left GDAL, at most half a second.

    They leave it to wait for that lock, and cannot come back without it. From here until `let_go`, Python
    does not take the lock away from this thread.
    """
    global _switch_interval
    libc = ctypes.PyDLL(None)  # unlike CDLL, and unlike open and time.sleep, it keeps the GIL
    _switch_interval = sys.getswitchinterval()
    # Threads that wait already ask for the lock once more. They get it, and leave it at their next call of
    # GDAL. After that, none asks again before this interval is over.
    sys.setswitchinterval(2 * LIMIT)
    deadline = time.monotonic() + LIMIT
    libc.usleep(5 * _STEP)
    while time.monotonic() < deadline and _somebody_is_inside(libc):
        libc.usleep(_STEP)


def let_go() -> None:
    """Let other threads go on, in the parent and in the child."""
    global _switch_interval
    if _switch_interval is not None:
        sys.setswitchinterval(_switch_interval)
        _switch_interval = None


def _somebody_is_inside(libc: ctypes.PyDLL) -> bool:
    frames = sys._current_frames()
    return any(
        thread is not threading.current_thread()
        and thread.native_id is not None
        and not _waits_in_python(frames.get(thread.ident or 0))
        and not _waits_for_a_lock(libc, thread.native_id)
        for thread in threading.enumerate()
    )


def _waits_in_python(frame: FrameType | None) -> bool:
    """Tell whether a thread is in the standard library, as one that waits for a socket or a queue is."""
    file = frame.f_code.co_filename if frame is not None else _STANDARD_LIBRARY
    return file.startswith(_STANDARD_LIBRARY) and "-packages" not in file


def _waits_for_a_lock(libc: ctypes.PyDLL, native_id: int) -> bool:
    """Tell from Linux's notes whether a thread waits for a lock. True where there are no such notes."""
    file = libc.open(f"/proc/self/task/{native_id}/wchan".encode(), os.O_RDONLY)
    if file < 0:
        return True
    buffer = ctypes.create_string_buffer(64)
    size = libc.read(file, buffer, len(buffer))
    libc.close(file)
    return buffer.raw[: max(size, 0)].startswith(b"futex")
