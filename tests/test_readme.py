"""The commands, examples and tables of README are correct."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import TSREAD
from rio_terrascope import Settings
from rio_terrascope.cli import terrascope
from rio_terrascope.sandbox import Sandbox
from rio_terrascope.stac import CATALOGUE_URL

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text()


@pytest.fixture(scope="module")
def as_shipped(four_tiles):
    """The sandbox as a reader starts it, without options, except that its tiles are there already."""
    with Sandbox(tiles=four_tiles) as server:
        yield server


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_first_command_installs_what_is_shown_below():
    (command,) = re.findall(r"^    (.*/tsread demo)$", README, flags=re.MULTILINE)
    assert ".venv/bin/pip install '.[all]'" in command


def test_there_are_examples():
    assert len(python_blocks()) >= 5


def run(server, folder, *command):
    """Run a command on a server instead of Terrascope, and return its output."""
    done = subprocess.run(
        [word.replace("https://services.terrascope.be/", f"{server.origin}/") for word in command],
        env=os.environ | server.environ | {"PATH": f"{TSREAD.parent}{os.pathsep}{os.environ['PATH']}"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_run(as_shipped, tmp_path):
    """Run all examples in one process, in order, on the sandbox instead of Terrascope."""
    script = "\n".join(python_blocks())
    printed = run(as_shipped, tmp_path, sys.executable, "-W", "error::UserWarning", "-c", script)
    assert "'blockxsize': 1024" in printed
    assert list(tmp_path.iterdir()) == [tmp_path / "runtime"]
    assert {request.authorization for request in as_shipped.requests("data")} == {"valid"}


def test_the_table_is_what_its_command_prints():
    measured = subprocess.run(
        [sys.executable, PROJECT / "tests" / "benchmarks" / "plain_way.py"],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    ).stdout.splitlines()
    for line in measured:
        varies = re.sub(r"\| [1-9]\d* fail \|", "| 221 fail |", line)
        assert varies in README


def run_commands(server, folder):
    """Run README's shell commands on a server instead of Terrascope, and return their output."""
    script = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
    return run(server, folder, "bash", "-euc", script)


def test_the_commands_run(as_shipped, tmp_path):
    printed = run_commands(as_shipped, tmp_path)
    assert printed.count("Tree cover") == 2
    assert (tmp_path / "sao-tome-2020.png").stat().st_size > 10_000
    assert (tmp_path / "ndvi.png").stat().st_size > 10_000
    assert printed.count("S2A_20210614T105031_31UES_NDVI_10M_V200.tif") == 2


@pytest.mark.esatiles
def test_the_commands_print_the_output_shown(sandbox, tmp_path):
    (shown,) = re.findall(r"```text\n(.*?)```", README, flags=re.DOTALL)
    assert run_commands(sandbox, tmp_path).startswith(shown)


def test_the_table_of_commands_is_complete():
    for command in terrascope.commands:
        assert re.search(rf"^\|.*`(tsread )?{command}\b", README, flags=re.MULTILINE), command


def test_the_settings_table_tells_the_defaults():
    settings = Settings()
    defaults = (settings.token_url, settings.client_id, *settings.origins, CATALOGUE_URL)
    for default in (*defaults, settings.max_connections):
        assert f"`{default}`" in README
