"""Importing the package is light and without consequences."""

import subprocess
import sys

OPTIONAL = (
    *("starlette", "uvicorn", "joserfc", "shapely"),  # [sandbox]
    *("distributed", "dask", "pystac", "pystac_client", "keyring", "PIL", "matplotlib", "xarray"),
)
LOOK = """
import sys, threading
before = threading.active_count()
import rio_terrascope
import rio_terrascope.sandbox
loaded = [name for name in {names!r} if name in sys.modules]
assert not loaded, loaded
assert threading.active_count() == before
"""


def run(script):
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_no_optional_dependency_no_thread():
    run(LOOK.format(names=OPTIONAL))


def test_it_reads_where_no_optional_dependency_can_be_imported(sandbox):
    run(
        "import sys\n"
        f"for name in {OPTIONAL!r}: sys.modules[name] = None\n"
        "import rasterio, rio_terrascope\n"
        "from rio_terrascope import *\n"
        f"with rio_terrascope.terrascope_env(), rasterio.open({sandbox.url()!r}) as src:\n"
        "    assert src.read(1, window=((33000, 33100), (6500, 6600))).any()\n"
        f"    assert sample({sandbox.url()!r}, [(6.6, 0.2)]).shape == (1, 1)\n"
    )


def test_public_names_are_there_and_documented():
    import rio_terrascope

    for name in rio_terrascope.__all__:
        assert getattr(rio_terrascope, name).__doc__, name
