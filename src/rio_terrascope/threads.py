"""Waiting and starting threads in ways that Ctrl-C cannot break."""

import _thread
import threading


class Signal:
    """A `threading.Event` that Ctrl-C cannot break.

    Event is written in Python. If Ctrl-C comes at the wrong step, nobody can open its lock any longer.
    """

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        """Let all callers of `wait` go on, now and later."""
        try:  # noqa: SIM105 - fewer steps at which Ctrl-C can come
            self._unset.release()
        except RuntimeError:  # it is set already
            pass

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return not self._unset.locked()

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, and tell whether it is."""
        is_set = self._unset.acquire(timeout=max(0.0, seconds))
        if is_set:
            self.set()
        return is_set


def start_thread(thread: threading.Thread) -> None:
    """Start a thread as `Thread.start` does, which Ctrl-C can break for the same reason as Event.

    Another thread calls it, since Ctrl-C comes in the main thread only.
    """
    started = Signal()

    def start() -> None:
        try:
            thread.start()
        finally:
            started.set()

    _thread.start_new_thread(start, ())
    started.wait(threading.TIMEOUT_MAX)
