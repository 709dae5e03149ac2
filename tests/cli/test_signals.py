"""Ctrl-C and SIGTERM end a command at once, and leave nothing behind."""

import contextlib
import os
import pty
import signal
import subprocess
import time

import pytest

from helpers import read_terminal

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_at_once_while_the_server_hangs(tsread, sandbox, land, number):
    sandbox.hang(None, method="GET")
    process = tsread.popen("read", sandbox.url(), "-o", "out.tif", "--bbox", *land.bbox)
    sandbox.wait_for(lambda seen: any(r.method == "GET" for r in seen), timeout=30, server="data")
    asked = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    took = time.monotonic() - asked
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    # the server is given up after 45 s, several times
    assert took < 15
    assert not (tsread.cwd / "out.tif").exists()


def test_ctrl_c_at_the_prompt(stranger):
    ours, theirs = pty.openpty()
    process = stranger.popen("login", stdin=theirs, stderr=theirs)
    os.close(theirs)
    read_terminal(ours, until=b"Username:")
    # repeated, because input() misses a signal that comes just before it starts to wait
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
    assert process.returncode == 130
