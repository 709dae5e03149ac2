"""No call that can reach the network is made with Python's lock (the GIL) held. opening.py says why."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rio_terrascope
from rio_terrascope.gdal import opening

PACKAGE = Path(rio_terrascope.__file__).parent

COMMANDS = {"analysis/cog.py", "analysis/zonal.py", "analysis/preview.py", "analysis/classes.py"}
COMMANDS |= {"cli/info.py", "cli/stats.py", "cli/demo.py"}
BULK = {"reading/masks.py", "reading/parts.py", "reading/bbox.py"}

# What rasterio calls with the GIL held, though GDAL may need the network for it, and the modules that may
# use it: on local files, on files in memory, or on datasets that `open_whole` has opened.
HOLDS_THE_GIL = {
    "open": {
        "gdal/opening.py",
        "gdal/sparse.py",
        "analysis/cog.py",
        "analysis/preview.py",
        "cli/demo.py",
    },  # those: local files, or files in memory
    "mask_flag_enums": BULK,
    "read_masks": BULK,
    "dataset_mask": set(),
    "overviews": BULK | COMMANDS,
    "profile": BULK | {"worldcover.py"},
    "block_size": set(),
    "tags": COMMANDS,
    "tag_namespaces": set(),
    "subdatasets": set(),
    "descriptions": COMMANDS,
    "offsets": COMMANDS,
    "scales": COMMANDS,
    "units": COMMANDS,
    "colorinterp": COMMANDS,
    "colormap": COMMANDS,
    "gcps": set(),
    "rpcs": set(),
    "get_tag_item": set(),
    "checksum": set(),
    "statistics": set(),
    "stats": set(),
    "boundless": set(),
}


def uses():
    """Yield each use of one of these names: the name and the module."""
    for file in PACKAGE.rglob("*.py"):
        module = file.relative_to(PACKAGE).as_posix()
        if module.startswith("sandbox/"):  # shares nothing with the client, and reads local files
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                if node.attr != "open" or ast.unparse(node) == "rasterio.open":
                    yield node.attr, module
            elif isinstance(node, ast.keyword) and node.arg:
                yield node.arg, module


@pytest.mark.parametrize("name", HOLDS_THE_GIL)
def test_only_these_modules_use_it(name):
    used_by = {module for used, module in uses() if used == name}
    if name in ("offsets", "overviews", "profile"):  # parameters of rasterio.open and of our own functions
        used_by &= {module for module in used_by if "dataset" in (PACKAGE / module).read_text("utf-8")}
    assert used_by <= HOLDS_THE_GIL[name]


def test_the_docstring_names_them_all():
    for name in HOLDS_THE_GIL:
        assert f"``{name}" in opening.__doc__ or f"({name}=" in opening.__doc__


def stands_still(tile, way, seconds=20):
    """Run reading_while_it_hangs.py, and return what it printed if it stood still, else ''."""
    script = Path(__file__).with_name("reading_while_it_hangs.py")
    run = [sys.executable, script, tile, way, str(seconds)]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=90)
    assert ended.returncode in (0, 1), ended.stderr
    return ended.stderr if ended.returncode else ""


@pytest.mark.fault(
    "the server hangs while a thread opens a file with `env.open`, or reads",
    sees="all other threads go on",
    requests="0 more",
)
@pytest.mark.parametrize("way", ["open", "open an overview", "open with sidecars", "read", "read_windows"])
def test_other_threads_go_on_while_the_server_hangs(big_header, way):
    assert stands_still(big_header, way) == ""


def test_what_an_open_dataset_tells_is_in_memory(big_header):
    """Even if GDAL has dropped the file from its cache, and the server hangs."""
    assert stands_still(big_header, "facts") == ""


def test_a_server_that_hangs_is_noticed(big_header):
    """Checks the test itself: plain rasterio stands still."""
    assert "Timeout" in stands_still(big_header, "facts, plain", seconds=5)
