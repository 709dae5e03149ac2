"""The installed commands `tsread demo` and `tsread sandbox`."""

import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from rasterio.errors import NotGeoreferencedWarning

import rio_terrascope
from helpers import RIO, TSREAD
from rio_terrascope.cli import demo as module
from rio_terrascope.cli import terrascope


def tsread(*arguments, **options):
    return subprocess.run(
        [TSREAD, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False, **options
    )


def ended(process):
    """Wait for a demo, and return what it has printed."""
    stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def demos(tiles, tmp_path_factory):
    """The demo on the tile, and in a folder without one: both at once, because they mostly sleep."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "quicklook.png").touch()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([TSREAD, "demo", "--tile", tiles[0], "-o", folder / "land.png"], **pipes) as given,
        subprocess.Popen([TSREAD, "demo"], cwd=folder, **pipes) as made,
    ):
        yield ended(given), ended(made), folder


@pytest.fixture(scope="module")
def demo(demos):
    """The run of the demo on the tile, and its picture."""
    given, _made, folder = demos
    return given, folder / "land.png"


def test_demo_reports_in_six_lines(demo):
    done, _picture = demo
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(":", 1) for line in done.stdout.splitlines()[:6])
    assert lines["Logins"].split()[0] == "1"
    assert "all equal to the file: yes" in lines["Windows"]
    total, valid = lines["Requests"].split()[0], lines["Requests"].split()[5]
    assert total == valid
    assert int(total) > 10
    assert int(lines["Elsewhere"].split()[0]) >= 3
    assert "redirected" in lines["Elsewhere"]
    assert "0 of them with the token" in lines["Elsewhere"]
    assert float(lines["Bytes read"].split()[0]) < float(lines["Bytes read"].split()[6])
    assert "with terrascope_env(" in done.stdout


def test_demo_draws_the_land_in_worldcovers_colours(demo, tiles):
    _done, picture = demo
    with warnings.catch_warnings(), rasterio.open(tiles[0]) as tile:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        png = rasterio.open(picture)
        pixels, colours = png.read(1), png.colormap(1)
        for value in np.unique(pixels[pixels != 0]):
            assert colours[value] == tile.colormap(1)[value]
        assert max(png.shape) == 1000
        assert 10 in pixels  # tree cover
        assert (pixels == 0).mean() < 0.95


def test_demo_needs_no_tile_and_can_be_run_again(demos):
    _given, done, folder = demos
    assert done.returncode == 0, done.stderr
    assert (folder / "quicklook-2.png").stat().st_size > 1000
    assert (folder / "quicklook.png").stat().st_size == 0


def test_demo_does_not_overwrite_a_picture(tmp_path):
    picture = tmp_path / "land.png"
    picture.touch()
    done = tsread("demo", "-o", picture)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "--overwrite" in done.stderr
    assert picture.stat().st_size == 0


def test_demo_reports_errors(monkeypatch, tmp_path):
    wrong = module.Report([], 1, 1.0, 1, 1, ["other pixels than the file's at a window"])
    monkeypatch.setattr(module, "_read_and_count", lambda server, picture: picture.touch() or wrong)
    result = CliRunner().invoke(terrascope, ["demo", "-o", str(tmp_path / "land.png")])
    assert result.exit_code == 1
    assert "all equal to the file: no" in result.output
    assert "0 logins instead of one" in result.output


@pytest.mark.parametrize(
    "arguments", [["demo", "--tile", "/no/such.tif"], ["demo", "--nonsense"], ["nonsense"], ["sandbox", "x"]]
)
def test_wrong_usage_is_exit_code_2(arguments, tmp_path):
    done = tsread(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_an_unwritable_folder_is_a_one_line_error(tmp_path):
    done = tsread("demo", "-o", tmp_path / "none" / "land.png")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", [[TSREAD], [RIO, "terrascope"]])
def test_help_shows_the_same_group(command):
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "demo" in done.stdout
    assert "sandbox" in done.stdout
    assert "Read Terrascope's protected rasters" in done.stdout


def test_version():
    assert tsread("--version").stdout == f"tsread, version {rio_terrascope.__version__}\n"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_sandbox_serves_until_it_is_told_to_end(tiles, end):
    command = [TSREAD, "sandbox", "--tile", str(tiles[0]), "--token-lifetime", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        environ, url = {}, None
        for line in process.stdout:
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").strip().partition("=")
                environ[name] = value
            elif line.startswith("# protected tile: "):
                url = line.split()[-1]
                break
        script = (
            "import rasterio, sys; from rio_terrascope import terrascope_env\n"
            "with terrascope_env(), rasterio.open(sys.argv[1]) as src: print(src.shape)"
        )
        reader = subprocess.run(
            [sys.executable, "-c", script, url],
            env=os.environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert reader.stdout == "(36000, 36000)\n", reader.stderr
        process.send_signal(end)
        assert process.wait(30) == 0
