"""The limits of the tests themselves: a child, a terminal or a soak that hangs fails, and ends."""

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from helpers import in_child, read_terminal

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning"),
]

# The read blocks in C with the GIL held, so that no Python code could end it.
STANDING_STILL = """
import ctypes, sys
import soak
soak.STANDS_STILL = 2
soak.Reader.run = lambda *_: ctypes.PyDLL(None).sleep(50)
sys.argv = ["soak.py", "--minutes", "0.01"]
if __name__ == "__main__":
    soak.main()
"""


def test_a_child_that_raises(capfd):
    with pytest.raises(AssertionError, match="the child raised"):
        in_child(lambda: 1 / 0)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_child_that_hangs():
    with pytest.raises(AssertionError, match="the child hangs"):
        in_child(lambda: threading.Event().wait(), seconds=0.2)


def test_a_terminal_that_stays_silent():
    ours, theirs = pty.openpty()
    with os.fdopen(ours), os.fdopen(theirs):
        os.write(theirs, b"Username: ")
        with pytest.raises(AssertionError, match=r"'Password:' did not come .* seen: b'Username: '"):
            read_terminal(ours, until=b"Password:", seconds=0.2)


def test_a_soak_that_hangs_prints_its_stacks_and_fails(tmp_path):
    script = tmp_path / "standing_still.py"
    script.write_text(STANDING_STILL)
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, script], env=environ, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "Timeout (0:00:02" in ended.stderr
    assert "in <lambda>" in ended.stderr  # once at least: several processes print at the same time
