"""How every command behaves: help, errors in one line, no secret shown."""

import subprocess

import pytest

from helpers import RIO
from rio_terrascope import cli

pytestmark = pytest.mark.usefixtures("nothing_left")

COMMANDS = [
    "login", "status", "logout", "token", "search", "info", "read", "sample", "stats", "preview",
    "worldcover", "exec", "doctor", "sandbox", "demo",
]  # fmt: skip


def test_every_command_is_there_and_helps_with_an_example():
    from click.testing import CliRunner

    assert set(cli.terrascope.commands) == set(COMMANDS)
    for name in COMMANDS:
        text = CliRunner().invoke(cli.terrascope, [name, "--help"], prog_name="tsread").output
        assert f"tsread {name}" in text.partition("Options:")[0].partition("\n")[2]


def test_version_and_the_same_group_under_rio(tsread):
    assert tsread("--version").stdout.startswith("tsread, version ")
    done = subprocess.run([RIO, "terrascope", "--help"], env=tsread.environ, capture_output=True, text=True)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_usage_errors_have_one_line_and_exit_code_2(tsread):
    assert "No such command" in tsread.fails("nonsense", code=2)
    assert "--help" in tsread.fails("info", code=2)


def test_verbose_shows_requests_and_no_secret(tsread, sandbox):
    done = tsread("-vv", "read", sandbox.signed_redirect_url(), "-o", "out.tif", "--window", 0, 0, 9, 9)
    done_v = tsread("-v", "info", sandbox.url())
    token = tsread("token").stdout.strip()
    assert "POST /auth/realms/terrascope/protocol/openid-connect/token" in done_v.stderr
    assert "Downloading 0-" in done_v.stderr
    for text in (done.stderr, done_v.stderr):
        assert sandbox.password not in text
        assert "eyJ" not in text  # how each JSON web token begins
        assert "X-Amz-Signature" not in text
    assert token.startswith("eyJ")


def test_a_closed_pipe_ends_it_quietly(tsread, sandbox):
    process = tsread.popen("info", sandbox.url())
    process.stdout.close()
    process.wait(timeout=30)
    errors = process.stderr.read()
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors
