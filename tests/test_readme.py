"""What README shows is what works."""

import os
import re
import subprocess
import sys
from pathlib import Path

from rio_terrascope import Settings

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text()


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_there_are_examples():
    assert len(python_blocks()) >= 5


def test_the_examples_run(sandbox, tmp_path):
    """All in one process, in order, as a reader would paste them; Terrascope's name for the stand-in's."""
    script = "\n".join(python_blocks())
    script = script.replace("https://services.terrascope.be/", f"{sandbox.origin}/")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=os.environ | sandbox.environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'blockxsize': 1024" in done.stdout
    assert list(tmp_path.iterdir()) == [tmp_path / "runtime"]
    assert {request.authorization for request in sandbox.requests("data")} == {"valid"}


def test_the_table_is_what_its_command_prints(tiles):
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


def test_the_settings_table_tells_the_defaults():
    settings = Settings()
    for default in (settings.token_url, settings.client_id, *settings.origins):
        assert f"`{default}`" in README
