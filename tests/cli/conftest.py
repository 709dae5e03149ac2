"""The installed command in a process of its own, and the tile that it reads."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from helpers import TSREAD


@pytest.fixture
def environ(tmp_path):
    """An environment without anybody's login or GDAL options."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    (tmp_path / "home").mkdir()
    (tmp_path / "run").mkdir(mode=0o700)
    return kept | {
        "HOME": str(tmp_path / "home"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        "LC_ALL": "C.UTF-8",
    }


@dataclass
class Tsread:
    """Runs ``tsread`` in a folder, with an environment."""

    environ: dict
    cwd: Path

    def __call__(self, *arguments, code=0, text=True, environ=None, **options):
        done = subprocess.run(
            [TSREAD, *map(str, arguments)],
            env=self.environ if environ is None else environ,
            cwd=self.cwd,
            capture_output=True,
            text=text,
            timeout=60,
            **({"stdin": subprocess.DEVNULL} if "input" not in options else {}),
            **options,
        )
        assert done.returncode == code, (done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done

    def json(self, *arguments, **options):
        return json.loads(self(*arguments, "--json", **options).stdout)

    def fails(self, *arguments, code=1, **options):
        """Run a command that must fail with one line on stderr, and return the line."""
        done = self(*arguments, code=code, **options)
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert len(lines) == 1, lines
        assert "Traceback" not in lines[0]
        return lines[0]

    def popen(self, *arguments, **options):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [TSREAD, *map(str, arguments)], **{"env": self.environ, "cwd": self.cwd} | pipes | options
        )


@pytest.fixture
def tsread(sandbox, environ, tmp_path):
    """``tsread`` with the sandbox's account in the environment."""
    folder = tmp_path / "work"
    folder.mkdir()
    return Tsread(environ | sandbox.environ, folder)


@pytest.fixture
def short_lived(tsread, fleeting):
    """``tsread`` with the account of a sandbox whose tokens live 2 s."""
    return Tsread(tsread.environ | fleeting.environ, tsread.cwd)


@pytest.fixture
def stranger(tsread, sandbox):
    """``tsread`` without an account; it knows where the sandbox is."""
    secrets = ("TERRASCOPE_USERNAME", "TERRASCOPE_PASSWORD")
    return Tsread({name: value for name, value in tsread.environ.items() if name not in secrets}, tsread.cwd)


@dataclass
class Land:
    """A window of the first tile with much land in it; its edges lie inside blocks."""

    window: Window
    bbox: tuple
    pixels: np.ndarray
    transform: rasterio.Affine


@pytest.fixture(scope="session")
def land(tiles):
    with rasterio.open(tiles[0]) as tile:
        # one cell of the thumbnail is 500 pixels
        thumbnail = tile.read(1, out_shape=(72, 72))
        row, column = np.argwhere((thumbnail != 0) & (thumbnail != 80))[0]
        window = Window(int(column) * 500 - 301, int(row) * 500 - 201, 1400, 1301)
        west, south, east, north = tile.window_bounds(window)
        pixels = tile.read(1, window=window)
        assert len(np.unique(pixels)) > 2
        return Land(window, (west, south, east, north), pixels, tile.window_transform(window))


@pytest.fixture
def nothing_left(tsread):
    """No half-written file and no file with a token is left after the test."""
    yield
    assert [path.name for path in tsread.cwd.iterdir() if path.name.startswith(".")] == []
    assert list(Path(tsread.environ["XDG_RUNTIME_DIR"]).iterdir()) == []
