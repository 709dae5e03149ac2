"""Ctrl-C and SIGTERM."""

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator

STOPPED = 128 + signal.SIGINT  # the exit code after Ctrl-C
GRACE = 1.0  # seconds that a command has to end by itself

unfinished_folders: set[str] = set()  # folders with output that is not complete yet


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Let Ctrl-C, and SIGTERM, end the block even while GDAL waits for a server.

    Python raises KeyboardInterrupt only when the main thread is back from GDAL, which may take
    as long as GDAL's time-outs. So a thread is told of the signal as well, and ends the process
    if the block has not ended a second later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    over = threading.Event()

    def watch() -> None:
        while number := os.read(told, 1):
            if number[0] in (signal.SIGINT, signal.SIGTERM) and not over.wait(GRACE):
                _end_now(128 + number[0])

    def terminate(_number: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    previous_fd = signal.set_wakeup_fd(tell)
    previous = signal.signal(signal.SIGTERM, terminate)
    threading.Thread(target=watch, name="rio-terrascope-signals", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(previous_fd)
        signal.signal(signal.SIGTERM, previous)
        os.close(tell)  # which ends the thread


def _end_now(code: int) -> None:
    """End the process without waiting for anything, but leave nothing behind."""
    from rio_terrascope.gdal import header

    for folder in list(unfinished_folders):
        shutil.rmtree(folder, ignore_errors=True)
    header.close_header_files()
    if code == STOPPED:
        sys.stderr.write("\nStopped.\n")
        sys.stderr.flush()
    os._exit(code)
