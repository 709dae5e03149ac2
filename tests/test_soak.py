"""The soak notices a process that stands still, instead of hanging with it."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import ctypes, sys
import soak

soak.STANDS_STILL = 5
soak.Reader.once = lambda self, ended: ctypes.PyDLL(None).sleep(1000)  # with the GIL held
sys.argv = ["soak.py", "--minutes", "0.1", "--freeze"]
soak.main()
"""


def test_a_process_that_stands_still_prints_its_stacks_and_fails():
    run = [sys.executable, "-c", SCRIPT]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=100, cwd=Path(__file__).parent)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert "read_in_threads" in ended.stderr
