"""Which defects of GDAL and rasterio are still there: a fixed one fails its test."""

import subprocess
import sys
from pathlib import Path

import pytest
import rasterio

UPSTREAM = Path(__file__).parent / "upstream"
SCRIPTS = sorted(path.name for path in UPSTREAM.glob("*.py") if path.name != "server.py")
ROWS = [line.strip("| \n").split(" | ") for line in (UPSTREAM / "README.md").read_text("utf-8").splitlines()]
WORKAROUNDS = {row[0]: row[-1] for row in ROWS if row[0] in SCRIPTS}
GONE = 3  # the exit code of a script whose defect is gone


def test_each_script_is_explained():
    assert sorted(WORKAROUNDS) == SCRIPTS
    for name in SCRIPTS:
        assert "rio_terrascope" not in (UPSTREAM / name).read_text("utf-8")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_defect_is_still_there(script):
    done = subprocess.run(
        [sys.executable, UPSTREAM / script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in (0, GONE), done.stderr
    assert done.returncode == 0, (
        f"{script} shows no defect any more with GDAL {rasterio.__gdal_version__} and rasterio "
        f"{rasterio.__version__}. This can go: {WORKAROUNDS[script]}\n{done.stdout}"
    )
    assert "happens: " in done.stdout
