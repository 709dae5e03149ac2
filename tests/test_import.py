"""Importing the package is quick and has no side effects."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from rio_terrascope.errors import install_advice
from rio_terrascope.sandbox.process import INSTALL

OPTIONAL = (
    *("starlette", "uvicorn", "joserfc", "shapely"),  # [sandbox]
    *("h2", "hpack"),  # [http2]
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


def test_it_reads_without_optional_dependencies(sandbox):
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


def test_the_extra_all_covers_what_readme_shows():
    wanted = {}
    for requirement in metadata.requires("rio-terrascope"):
        library, _, extra = requirement.partition("; extra == ")
        wanted.setdefault(extra.strip("'\""), set()).add(library)
    # keyring is a choice of its own; the others are for developers or notebooks
    apart = {"", "all", "keyring", "notebooks", "test", "realservers", "bench"}
    assert wanted["all"] == set().union(*(wanted[extra] for extra in wanted.keys() - apart))


def test_extras_in_advice_exist():
    import rio_terrascope

    files = Path(rio_terrascope.__file__).parent.rglob("*.py")
    advised = {
        extra
        for file in files
        for extra in re.findall(r"(?:install_advice\([\"']|rio-terrascope\[)(\w+)", file.read_text())
    }
    assert advised == {"dask", "preview", "sandbox", "stac"}
    assert advised <= set(metadata.metadata("rio-terrascope").get_all("Provides-Extra"))


@pytest.mark.parametrize(("extra", "advice"), [("stac", install_advice("stac")), ("sandbox", INSTALL)])
def test_the_advice_fits_an_index_and_a_clone(extra, advice):
    assert advice == f"pip install 'rio-terrascope[{extra}]', or '.[{extra}]' in a clone"
