"""Every fault in the process: what it leaves behind, and that reading goes on or ends cleanly."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import rasterio

from helpers import (
    assert_same_pixels,
    grants,
    headers_in_memory,
    in_child,
    refreshed,
    some_windows,
    tokens_sent,
)
from rio_terrascope import terrascope_env
from rio_terrascope.env import active_env
from rio_terrascope.gdal import cache

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.fixture
def python(sandbox):
    """Run lines of Python in a new process, with `url`, `window` and the package's names defined."""
    processes = []

    def start(lines, **environ):
        script = (
            "import os, sys, rasterio\n"
            "from rio_terrascope import *\n"
            f"url, window = {sandbox.url()!r}, ((16000, 16100), (16500, 16600))\n"
        ) + textwrap.dedent(lines)
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # with CPL_DEBUG, GDAL warns of RASTERIO_ENV, an option of rasterio's that it does not know
            env={k: v for k, v in (os.environ | {"CPL_DEBUG": None} | environ).items() if v is not None},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ends_well(process):
    """Wait until the process ends without an error, and return its output."""
    out, err = process.communicate(timeout=60)
    sys.stderr.write(err)  # tests/sweep.py searches it
    if os.environ.get("CPL_DEBUG") == "ON":  # as in the sweep, where GDAL prints debug messages
        err = "".join(line for line in err.splitlines(True) if not line.startswith("GDAL: "))
    assert (process.returncode, err) == (0, "")
    return out


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.fault(
    "fork in the middle of a refresh", sees="right pixels in both", requests="1 login of the child's own"
)
def test_fork_in_the_middle_of_a_refresh(row, sandbox, tiles):
    with terrascope_env() as env, rasterio.open(sandbox.url()) as src, rasterio.open(tiles[0]) as local:
        windows = list(some_windows(4))
        assert_same_pixels(src, local, windows[:1])
        sandbox.hang(server="sso", match="token")
        refresher = threading.Thread(target=env.refresh)
        refresher.start()
        sandbox.wait_for(lambda requests: len(requests) == 2, server="sso")

        def refresh_and_read():
            env.refresh()  # the parent's lock is held by a thread that does not exist here
            with rasterio.open(f"{sandbox.url()}?child") as mine, rasterio.open(tiles[0]) as pixels:
                assert_same_pixels(mine, pixels, windows[1:2])

        in_child(refresh_and_read)
        assert refresher.is_alive()
        sandbox.heal()  # resets the hanging request, which is retried
        refresher.join(30)
        assert_same_pixels(src, local, windows[2:])
    row.costs(grants(sandbox.requests(), "password") - 1)
    assert {request.status for request in sandbox.requests("sso")} <= {200, None}
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


SIGTERM = pytest.mark.fault("SIGTERM", sees="the process ends; nothing left", requests="0")
SIGKILL = pytest.mark.fault("kill -9", sees="the process ends; nothing left", requests="0")


@pytest.mark.parametrize(
    ("number", "handled"),
    [
        pytest.param(signal.SIGTERM, False, marks=SIGTERM),
        pytest.param(signal.SIGTERM, True, marks=SIGTERM),
        pytest.param(signal.SIGKILL, False, marks=SIGKILL),
    ],
)
def test_killed(row, sandbox, python, clean_surroundings, number, handled):
    """By default Python ends at once. The token was in memory only."""
    handler = "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))" if handled else ""
    process = python(
        f"""
        {handler}
        with terrascope_env(), rasterio.open(url) as src:
            src.read(1, window=window)
            print("reading", flush=True)
            sys.stdin.read()
        """
    )
    assert process.stdout.readline() == "reading\n"
    assert list(clean_surroundings.iterdir()) == []
    sandbox.clear()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == ((7, "") if handled else (-number, ""))
    assert list(clean_surroundings.iterdir()) == []
    row.costs(sandbox.requests())


@pytest.mark.fault(
    "interpreter exit with a dataset open", sees="a quiet exit, nothing left", requests="1 login"
)
@pytest.mark.parametrize(
    "lines",
    [
        "login(); src = rasterio.open(url); src.read(1, window=window)",
        "env = terrascope_env(); env.__enter__(); src = rasterio.open(url); src.read(1, window=window)",
        "env = terrascope_env(); env.__enter__(); src = rasterio.open(url); sys.exit(0)",
    ],
)
def test_exit_with_a_dataset_open(row, sandbox, python, clean_surroundings, lines):
    assert ends_well(python(lines)) == ""
    assert list(clean_surroundings.iterdir()) == []
    row.costs(sandbox.requests("sso"))


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(
            "import tempfile; tempfile.tempdir = '/proc'",  # nobody makes a folder there, root neither
            marks=pytest.mark.fault(
                "no folder that can be written to", sees="right pixels", requests="1 login"
            ),
        ),
        pytest.param(
            "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))",
            marks=pytest.mark.fault("full disk", sees="right pixels", requests="1 login"),
        ),
    ],
)
def test_no_room_on_disk(row, sandbox, python, trouble):
    process = python(
        f"""
        {trouble}
        with terrascope_env() as env, rasterio.open(url) as src:
            print(src.read(1, window=window).sum())
            env.refresh()
            with rasterio.open(url + "?new") as new:
                print(new.read(1, window=window).sum())
        """,
        XDG_RUNTIME_DIR="/proc",
    )
    with rasterio.open(sandbox.file()) as local:
        expected = local.read(1, window=((16000, 16100), (16500, 16600))).sum()
    assert ends_well(process).split() == [str(expected)] * 2
    row.costs(grants(sandbox.requests(), "password"))
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


@pytest.mark.fault("no HOME, no runtime folder", sees="right pixels", requests="1 login")
def test_no_home(row, sandbox, python, tmp_path):
    process = python(
        """
        with terrascope_env(), rasterio.open(url) as src:
            print(src.read(1, window=window).shape)
        """,
        HOME=None,
        XDG_RUNTIME_DIR=None,
        XDG_CONFIG_HOME=None,
        TMPDIR=str(tmp_path),
    )
    assert ends_well(process) == "(100, 100)\n"
    assert not list(tmp_path.glob(".rio*"))
    row.costs(sandbox.requests("sso"))


@pytest.mark.fault("no home folder at all, and no login", sees="`CredentialsNotFoundError`", requests="0")
def test_no_home_at_all(row, sandbox, python):
    process = python(
        """
        import pwd
        def nobody(uid):
            raise KeyError(uid)
        pwd.getpwuid = nobody  # as for a user id of a container that no /etc/passwd knows
        try:
            terrascope_env().__enter__()
        except CredentialsNotFoundError as error:
            print(error)
        """,
        HOME=None,
        NETRC=None,
        XDG_CONFIG_HOME=None,
        TERRASCOPE_PASSWORD=None,
    )
    said = ends_well(process)
    assert "there is no home directory" in said
    assert "TERRASCOPE_PASSWORD" in said
    row.shows_kind("CredentialsNotFoundError")
    row.costs(sandbox.requests("sso"))


@pytest.mark.fault(
    "exception inside the block",
    sees="that exception; nothing left, and an open dataset reads no more",
    requests="0 with the token",
)
def test_exception_inside_the_block(row, sandbox, reads_right):
    opened = []

    def fails():
        with terrascope_env():
            opened.append(rasterio.open(sandbox.url()))
            reads_right(opened[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert headers_in_memory() == []
    sandbox.clear()
    with opened[0] as src, pytest.raises(rasterio.RasterioIOError):
        reads_right(src)
    requests = sandbox.requests("data")
    assert requests
    row.costs([request for request in requests if request.authorization != "none"])


@pytest.mark.fault("asyncio with threads", sees="right pixels", requests="1 login")
def test_asyncio_with_threads(row, fleeting, lands):
    def read(env, number):
        land = lands[number % len(lands)]
        with env.open(f"{fleeting.url()}?{number % 8}") as src:
            np.testing.assert_array_equal(src.read(1, window=land.window), land.pixels)

    async def many():
        with terrascope_env() as env:
            number = 0
            while not refreshed(2)(fleeting.requests("sso")):
                await asyncio.gather(*[asyncio.to_thread(read, env, number + n) for n in range(16)])
                cache.forget(fleeting.url())
                number += 16
        return number

    assert asyncio.run(many()) > 16
    assert tokens_sent(fleeting.requests("data")) == {"valid"}
    row.costs(grants(fleeting.requests(), "password"))


def test_asyncio_cancelled(sandbox, reads_right):
    """A cancelled task leaves its block; another task reads on."""

    async def stays(entered):
        with terrascope_env():
            entered.set()
            await asyncio.Event().wait()

    async def both():
        with terrascope_env():
            entered = asyncio.Event()
            task = asyncio.create_task(stays(entered))
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with rasterio.open(sandbox.url()) as src:
                await asyncio.to_thread(reads_right, src)

    asyncio.run(both())
    assert grants(sandbox.requests(), "password") == 1
    assert headers_in_memory() == []


@pytest.mark.fault(
    "collected as garbage without an exit",
    sees="a generator leaves its block; an env stays in it",
    requests="1 login",
)
def test_garbage(row, sandbox, reads_right):
    def datasets():
        with terrascope_env():
            while True:
                with rasterio.open(sandbox.url()) as src:
                    yield src

    generator = datasets()
    reads_right(next(generator))
    row.costs(sandbox.requests("sso"))
    del generator
    gc.collect()
    assert headers_in_memory() == []
    env = terrascope_env()
    env.__enter__()
    del env
    gc.collect()
    with rasterio.open(sandbox.url()) as src:  # an env stays active until it is left, or the process ends
        reads_right(src)
    active_env(sandbox.url()).__exit__()
    assert headers_in_memory() == []
