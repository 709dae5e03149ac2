"""exec: a GDAL program can read for as long as it runs, and gets no secret but the token."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from helpers import RIO

pytestmark = pytest.mark.usefixtures("nothing_left")

LOOK = """
import json, os, sys
parent = open(f"/proc/{os.getppid()}/cmdline").read()
config = open(os.environ["GDAL_CONFIG_FILE"]).read() if "GDAL_CONFIG_FILE" in os.environ else ""
header = [l.partition("=")[2] for l in config.splitlines() if l.startswith("GDAL_HTTP_HEADER_FILE")]
header = header or [os.environ["GDAL_HTTP_HEADER_FILE"]]
print(json.dumps({"environ": dict(os.environ), "argv": sys.argv + [parent], "config": config,
    "mode": oct(os.stat(header[0]).st_mode & 0o777),
    "folder": oct(os.stat(os.path.dirname(header[0])).st_mode & 0o777),
    "token": open(header[0]).read().split()[-1]}))
"""


def look(tsread, *options):
    return json.loads(tsread("exec", *options, "--", sys.executable, "-c", LOOK).stdout)


def authorizations(sandbox, server):
    return {request.authorization for request in sandbox.requests(server)}


def test_a_gdal_program_reads(tsread, sandbox):
    done = tsread("exec", "--", RIO, "info", "--shape", sandbox.url())
    assert done.stdout.split() == ["36000", "36000"]
    assert authorizations(sandbox, "data") == {"valid"}
    # no requests for sidecar files, as with terrascope_env
    assert len(sandbox.requests("data")) <= 4


def test_nothing_secret_is_handed_on(tsread, sandbox):
    seen = look(tsread)
    everywhere = json.dumps([seen["environ"], seen["argv"], seen["config"]])
    assert sandbox.password not in everywhere
    assert seen["token"] not in everywhere
    assert (seen["mode"], seen["folder"]) == ("0o600", "0o700")
    assert seen["environ"]["TERRASCOPE_TOKEN_URL"] == sandbox.token_url


READ_ON = """
import sys, rasterio
from rasterio.windows import Window
url, = sys.argv[1:]
with rasterio.open(url) as dataset:
    print("open", flush=True)
    for line in sys.stdin:
        row = int(line)
        print(int(dataset.read(1, window=Window(0, row, 36000, 1024)).sum()), flush=True)
"""


def test_the_token_is_renewed_underneath_a_program_that_stays(short_lived, fleeting):
    with (
        rasterio.open(fleeting.file()) as tile,
        short_lived.popen(
            "exec", "--", sys.executable, "-c", READ_ON, fleeting.url(), stdin=subprocess.PIPE
        ) as child,
    ):
        assert child.stdout.readline() == "open\n"
        for number in range(3):
            row = 14000 + 3000 * number
            refreshes = number + 1
            fleeting.wait_for(
                lambda seen, n=refreshes: sum(r.grant == "refresh_token" for r in seen) >= n, server="sso"
            )
            child.stdin.write(f"{row}\n")
            child.stdin.flush()
            expected = int(tile.read(1, window=((row, row + 1024), (0, 36000))).sum(dtype=np.int64))
            assert int(child.stdout.readline()) == expected
        child.communicate("", timeout=30)
    assert child.returncode == 0
    assert authorizations(fleeting, "data") == {"valid"}
    assert [r.grant for r in fleeting.requests("sso")].count("password") == 1


OPEN = """
import sys, rasterio
for url in sys.argv[1:]:
    with rasterio.open(url) as dataset:
        print(dataset.read(1, window=((15000, 15100), (9000, 9100))).shape)
"""


def read_all(tsread, *urls, options=()):
    done = tsread("exec", *options, "--", sys.executable, "-c", OPEN, *urls)
    assert len(done.stdout.splitlines()) == len(urls)
    return done


def test_no_other_host_gets_the_token(tsread, sandbox):
    read_all(tsread, sandbox.other_url(), sandbox.redirect_url(), sandbox.signed_redirect_url())
    assert authorizations(sandbox, "other") == {"none"}
    assert authorizations(sandbox, "data") == {"valid"}


def test_all_hosts_sends_it_everywhere_and_says_so(tsread, sandbox):
    done = read_all(tsread, sandbox.other_url(), sandbox.url(), options=["--all-hosts"])
    assert "every host" in done.stderr
    assert authorizations(sandbox, "other") == {"present"}
    assert authorizations(sandbox, "data") == {"valid"}


def test_the_users_own_configuration_holds(tsread, sandbox):
    own = tsread.cwd / "gdalrc"
    own.write_text(
        "[configoptions]\nGDAL_HTTP_MAX_RETRY=7\nMY_OPTION=yes\n[credentials]\n[.mine]\npath=/vsis3/mine\n"
        "AWS_NO_SIGN_REQUEST=YES\n"
    )
    tsread.environ |= {"GDAL_CONFIG_FILE": str(own), "GDAL_HTTP_CONNECTTIMEOUT": "3"}
    config = look(tsread)["config"]
    assert "MY_OPTION=yes" in config
    assert "AWS_NO_SIGN_REQUEST=YES" in config
    assert "GDAL_HTTP_MAX_RETRY=7" in config.partition("GDAL_HTTP_HEADER_FILE")[2]
    assert "GDAL_HTTP_CONNECTTIMEOUT=3" in config
    tsread.environ["GDAL_CONFIG_FILE"] = "/no/such/file"
    assert "/no/such/file" in tsread.fails("exec", "--", "true")


def test_a_gdalrc_in_the_home_folder_holds(tsread):
    folder = Path(tsread.environ["HOME"], ".gdal")
    folder.mkdir()
    (folder / "gdalrc").write_text("[configoptions]\nMY_OPTION=yes\n")
    assert "MY_OPTION=yes" in look(tsread)["config"]


def test_an_authorization_of_the_users_own_is_not_sent_with_ours(tsread, sandbox):
    tsread.environ["GDAL_HTTP_HEADERS"] = "X-Mine: 1,Authorization: Bearer stale"
    read_all(tsread, sandbox.url())
    assert authorizations(sandbox, "data") == {"valid"}


@pytest.mark.parametrize(
    "headers", ['"Authorization: Bearer stale",X-Mine: "1,2"', "X-Mine: 1\r\nX-Yours: 2"]
)
def test_headers_of_the_users_own_in_any_form(tsread, sandbox, headers):
    tsread.environ["GDAL_HTTP_HEADERS"] = headers
    read_all(tsread, sandbox.url())
    assert authorizations(sandbox, "data") == {"valid"}
    assert {request.headers["x-mine"][0] for request in sandbox.requests("data")} == {"1"}


@pytest.mark.parametrize("where", ["environment", "configuration file"])
@pytest.mark.parametrize("options", [[], ["--all-hosts"]])
def test_options_that_endanger_the_token_do_not_count(tsread, sandbox, where, options):
    own = {
        "CPL_VSIL_CURL_USE_S3_REDIRECT": "YES",
        "CPL_VSIL_CURL_AUTHORIZATION_HEADER_ALLOWED_IF_REDIRECT": "YES",
        "GDAL_HTTP_UNSAFESSL": "YES",
    }
    if where == "environment":
        tsread.environ |= own
    else:
        file = tsread.cwd / "gdalrc"
        file.write_text("[configoptions]\n" + "".join(f"{key}={value}\n" for key, value in own.items()))
        tsread.environ["GDAL_CONFIG_FILE"] = str(file)
    done = read_all(tsread, sandbox.redirect_url(), sandbox.redirect_url("?2"), options=options)
    assert [key for key in own if key in done.stderr] == list(own)
    assert done.stderr.count("Warning: ") == (3 if options else 2)
    assert authorizations(sandbox, "other") == {"none"}


def test_exit_codes_are_the_programs(tsread):
    tsread("exec", "sh", "-c", "exit 7", code=7)
    tsread("exec", "--", "sh", "-c", "kill -TERM $$", code=-signal.SIGTERM)
    assert "no such program" in tsread.fails("exec", "--", "no-such-program", code=127)
    script = tsread.cwd / "not-executable"
    script.write_text("")
    assert "permission" in tsread.fails("exec", "--", script, code=126)


@pytest.mark.parametrize("options", [[], ["--all-hosts"]])
def test_a_program_that_cannot_be_run_is_found_before_the_login(tsread, stranger, sandbox, options):
    script = tsread.cwd / "not-executable"
    script.write_text("")
    tsread.environ["PATH"] = stranger.environ["PATH"] = f"{tsread.cwd}{os.pathsep}{tsread.environ['PATH']}"
    for run in (tsread, stranger):
        line = run.fails("exec", *options, "--", "no-such-program", code=127)
        assert line == "Error: no-such-program: there is no such program. Next: check its name and PATH."
        for program in (script, script.name, tsread.cwd):
            line = run.fails("exec", *options, "--", program, code=126)
            assert line.startswith(f"Error: {program} cannot be run: permission denied. Next: make it exec")
    assert sandbox.requests() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(tsread, number):
    catch = (
        "import signal, sys\n"
        "signal.signal(int(sys.argv[1]), lambda *_: sys.exit(5))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()"
    )
    with tsread.popen(
        "exec", "--", sys.executable, "-c", catch, int(number), start_new_session=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, number)
        process.communicate(timeout=30)
    assert process.returncode == 5


def test_without_a_login_nothing_is_run(stranger):
    ran = stranger.cwd / "ran"
    stranger.fails("exec", "--", "touch", ran)
    assert not ran.exists()
