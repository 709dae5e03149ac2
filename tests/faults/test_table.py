"""README shows the tables of faults as their command prints them."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def test_the_tables_are_what_their_command_prints():
    printed = subprocess.run(
        [sys.executable, HERE / "table.py"], capture_output=True, text=True, timeout=100, check=True
    ).stdout
    assert printed.count("\n| ") > 50
    assert printed.strip() in (HERE.parents[1] / "README.md").read_text()
