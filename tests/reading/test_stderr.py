"""GDAL prints its errors and warnings where nobody handles them: never in a call of this package."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("debug", ["OFF", "ON"])
def test_nothing_of_gdals_on_stderr(metres, debug):
    """With CPL_DEBUG=ON the user gets the debug lines of rasterio's calls, but none of ours."""
    script = Path(__file__).with_name("in_trouble.py")
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", script, metres],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env=os.environ | {"CPL_DEBUG": debug},
    )
    assert ended.returncode == 0, ended.stderr
    printed = re.findall(r"^(?:ERROR|Warning) \d+: .*", ended.stderr, re.MULTILINE)
    # rasterio's own: with CPL_DEBUG=ON, GDAL 3.12 does not know an option of each Env that rasterio makes
    assert [line for line in printed if "'RASTERIO_ENV'" not in line] == []
