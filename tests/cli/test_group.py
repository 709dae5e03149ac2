"""How every command behaves: help, errors in one line, Ctrl-C, nothing half written, no secret shown."""

import contextlib
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from helpers import RIO, read_terminal
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


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda s: None, "no such file at"),
        (lambda s: s.deny("missing"), "403"),
        (lambda s: s.fail(503, None, match="missing"), "in trouble, it answered 503"),
        (lambda s: s.reset(None, match="missing"), "cannot be reached"),
        (lambda s: s.fail(200, None, match="missing", body=b"<html></html>"), "not a raster"),
    ],
    ids=["404", "403", "503", "reset", "html"],
)
def test_urls_that_cannot_be_read(tsread, sandbox, break_it, said):
    tsread.environ["GDAL_HTTP_MAX_RETRY"] = "0"
    break_it(sandbox)
    line = tsread.fails("read", sandbox.url("missing.tif"), "-o", "out.tif", "--window", 0, 0, 9, 9)
    assert said in line
    assert sandbox.url("missing.tif").rpartition("/")[2] in line
    assert "Next: " in line
    assert not (tsread.cwd / "out.tif").exists()


def test_local_files_that_cannot_be_read(tsread):
    assert "none.tif: No such file" in tsread.fails("info", "none.tif")
    (tsread.cwd / "text.tif").write_text("text")
    assert "text.tif is not a raster" in tsread.fails("stats", "text.tif")


@pytest.mark.parametrize("break_it", ["reset", "gone"])
def test_a_network_that_drops_in_the_middle_leaves_nothing(tsread, sandbox, break_it):
    tsread.environ["GDAL_HTTP_MAX_RETRY"] = "0"
    if break_it == "reset":
        # the file's header comes through, and no larger read
        sandbox.reset(None, after=33000)
    else:
        sandbox.fail(503, None, method="GET")
    before = set(tsread.cwd.iterdir())
    line = tsread.fails("read", sandbox.url(), "-o", "out.tif", "--bbox", 6, 0, 9, 3)
    assert "Next: " in line
    assert set(tsread.cwd.iterdir()) == before


def test_a_path_that_cannot_be_written(tsread, sandbox):
    line = tsread.fails("read", sandbox.url(), "-o", "no/such/out.tif", "--window", 0, 0, 9, 9)
    assert "cannot write to no/such" in line
    assert sandbox.requests("data") == []


def test_a_disk_without_space(tsread, sandbox, land):
    # a file system that is full to all who ask
    (tsread.cwd / "sitecustomize.py").write_text(
        "import shutil\nfrom types import SimpleNamespace\n"
        "shutil.disk_usage = lambda path: SimpleNamespace(total=9, used=9, free=0)\n"
    )
    tsread.environ["PYTHONPATH"] = str(tsread.cwd)
    line = tsread.fails("read", sandbox.url(), "-o", "out.tif", "--bbox", *land.bbox)
    assert "no space is left" in line
    assert not (tsread.cwd / "out.tif").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_at_once_while_the_server_hangs(tsread, sandbox, land, number):
    sandbox.hang(None, method="GET")
    process = tsread.popen("read", sandbox.url(), "-o", "out.tif", "--bbox", *land.bbox)
    sandbox.wait_for(lambda seen: any(r.method == "GET" for r in seen), timeout=30, server="data")
    asked = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    took = time.monotonic() - asked
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    # GDAL alone would wait for 30 s, four times
    assert took < 15
    assert not (tsread.cwd / "out.tif").exists()


def test_ctrl_c_at_the_prompt(stranger):
    ours, theirs = pty.openpty()
    process = stranger.popen("login", stdin=theirs, stderr=theirs)
    os.close(theirs)
    read_terminal(ours, until=b"Username:")
    # more than once, since input() misses a signal that comes just before it begins to wait
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
    assert process.returncode == 130


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


def test_somebody_elses_url_is_read_without_the_token_and_said_so(tsread, sandbox):
    done = tsread("info", sandbox.other_url())
    assert "not one of Terrascope's origins" in done.stderr
    assert {request.authorization for request in sandbox.requests("other")} == {"none"}
    assert sandbox.requests("sso") == []


def test_an_open_url_and_a_local_file_need_no_login(stranger, sandbox):
    stranger("info", sandbox.other_url())
    assert stranger("info", sandbox.file()).stderr == ""


def test_a_closed_pipe_ends_it_quietly(tsread, sandbox):
    process = tsread.popen("info", sandbox.url())
    process.stdout.close()
    process.wait(timeout=30)
    errors = process.stderr.read()
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


def test_bars_on_a_terminal_only(tsread, sandbox, land):
    assert tsread("stats", sandbox.url(), "--bbox", *land.bbox).stderr == ""


def test_a_token_that_lapses_in_the_middle_is_renewed(tsread, sandbox, land):
    sandbox.latency(0.3)
    tsread("read", sandbox.url(), "-o", "out.tif", "--window", 4000, 14000, 14000, 9000)
    with rasterio.open(sandbox.file()) as tile, rasterio.open(tsread.cwd / "out.tif") as out:
        assert np.array_equal(out.read(1), tile.read(1, window=Window(4000, 14000, 14000, 9000)))
    assert any(request.grant == "refresh_token" for request in sandbox.requests("sso"))
    assert {request.authorization for request in sandbox.requests("data")} == {"valid"}
    assert Path(tsread.cwd, "out.tif").exists()
