"""Every public name exists, and importing the package imports no heavy library."""

import subprocess
import sys

import rio_terrascope


def test_every_public_name_exists():
    for name in rio_terrascope.__all__:
        assert getattr(rio_terrascope, name) is not None
    assert set(rio_terrascope.__all__) <= set(dir(rio_terrascope))
    names = {name for names in rio_terrascope._NAMES_BY_MODULE.values() for name in names}
    need_an_extra = {"distributed", "sandbox"}
    assert names | set(rio_terrascope._MODULES) == set(rio_terrascope.__all__) | need_an_extra


def test_the_command_line_is_imported_without_rasterio():
    heavy = "rasterio", "numpy", "requests"
    code = f"import rio_terrascope.cli, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done
