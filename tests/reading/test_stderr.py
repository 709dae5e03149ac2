"""GDAL prints errors and warnings that nobody handles. Calls of this package cause none."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("debug", ["OFF", "ON"])
def test_nothing_of_gdals_on_stderr(metres, debug):
    """With CPL_DEBUG=ON, GDAL prints debug lines for rasterio's calls, but no errors for ours."""
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
    # with CPL_DEBUG=ON, GDAL 3.12 warns about an option that rasterio itself sets in each Env
    assert [line for line in printed if "'RASTERIO_ENV'" not in line] == []
