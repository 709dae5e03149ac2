"""Ctrl-C and SIGTERM end a command within a second, even while GDAL waits for a server."""

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator

STOPPED = 128 + signal.SIGINT  # the exit code after Ctrl-C
GRACE = 1.0  # seconds that a command gets to end after the signal

unfinished_folders: set[str] = set()  # removed if the process ends at once


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """End the block on Ctrl-C and SIGTERM, even while GDAL waits for a server.

    Python raises KeyboardInterrupt only when the main thread returns from GDAL, which may take as
    long as GDAL's timeouts. A second thread therefore watches for the signal, and ends the process
    if the block has not ended after `GRACE` seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    ended = threading.Event()

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] in (signal.SIGINT, signal.SIGTERM) and not ended.wait(GRACE):
                _end_now(128 + number[0])

    def terminate(_number: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    previous_fd = signal.set_wakeup_fd(writer)
    previous = signal.signal(signal.SIGTERM, terminate)
    threading.Thread(target=watch, name="rio-terrascope-signals", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(previous_fd)
        signal.signal(signal.SIGTERM, previous)
        os.close(writer)  # ends the thread


def _end_now(code: int) -> None:
    """End the process at once, but remove unfinished output."""
    for folder in list(unfinished_folders):
        shutil.rmtree(folder, ignore_errors=True)
    if code == STOPPED:
        sys.stderr.write("\nStopped.\n")
        sys.stderr.flush()
    os._exit(code)
