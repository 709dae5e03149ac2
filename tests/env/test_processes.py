"""Child processes: forked ones go on with the parent's login, spawned ones log in themselves."""

import contextlib
import functools
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import rasterio

import rio_terrascope
from helpers import (
    enter_and_read,
    grants,
    headers_in_memory,
    in_child,
    read_until,
    read_while_told,
    refreshed,
    some_windows,
    tokens_sent,
)
from rio_terrascope import terrascope_env
from rio_terrascope.gdal import cache, libgdal
from rio_terrascope.gdal.options import S3_REDIRECT

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning"),
]


def children(method, target, sandbox, count):
    context = multiprocessing.get_context(method)
    started = []
    for number in range(count):
        here, there = context.Pipe()
        url = f"{sandbox.url()}?child={number}"
        process = context.Process(target=target, args=(url, sandbox.file(), there), daemon=True)
        process.start()
        there.close()
        started.append((process, here))
    for _process, pipe in started:
        assert pipe.recv() == "opened"
    return started


def end(started):
    for _process, pipe in started:
        pipe.send("stop")
    for process, pipe in started:
        assert pipe.recv() > 5
        process.join(30)
        assert process.exitcode == 0


@pytest.mark.fault("fork", sees="right pixels in all", requests="1 login each")
def test_forked_children_read_over_several_lifetimes(fleeting):
    url = fleeting.url()
    with terrascope_env(), rasterio.open(url) as src:
        src.read(1, window=next(some_windows(1)))  # opens connections that children must not share
        started = children("fork", read_while_told, fleeting, 2)
        # nine refreshes each of parent and children
        read_until(src, fleeting.file(), fleeting, refreshed(24), forget=lambda: cache.forget(url))
        end(started)
    requests = fleeting.requests()
    assert tokens_sent(fleeting.requests("data")) == {"valid"}
    # each child logs in once, and does not use the parent's refresh token
    assert grants(requests, "password") == 3
    assert headers_in_memory() == []


@pytest.mark.fault("spawn", sees="right pixels in all", requests="1 login each")
def test_spawned_children_read_over_several_lifetimes(fleeting):
    started = children("spawn", enter_and_read, fleeting, 2)
    fleeting.wait_for(refreshed(8), timeout=30)
    end(started)
    assert tokens_sent(fleeting.requests("data")) == {"valid"}
    assert grants(fleeting.requests(), "password") == 2
    assert headers_in_memory() == []


def test_a_child_that_leaves_does_not_take_the_parents_login_away(sandbox):
    env = terrascope_env()
    with env:
        parents = headers_in_memory()

        def leave():
            rasterio.open(sandbox.url() + "?child").close()
            assert headers_in_memory() == parents  # the child's own copy
            env.__exit__()
            assert headers_in_memory() == []

        in_child(leave)
        assert headers_in_memory() == parents
        rasterio.open(sandbox.url()).close()
    assert headers_in_memory() == []
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


def test_a_child_goes_on_when_the_parent_leaves(sandbox):
    reader, writer = os.pipe()

    def read_later():
        os.close(writer)
        os.read(reader, 1)  # until the parent has left
        rasterio.open(sandbox.url() + "?child").close()

    with contextlib.ExitStack() as block:
        block.callback(os.close, reader)
        block.callback(os.close, writer)
        block.enter_context(terrascope_env())
        in_child(read_later, in_parent=block.close)


@pytest.mark.fault(
    "fork while other threads read",
    sees="right pixels in all; a fork waits until they have left GDAL",
    requests="1 login each",
)
@pytest.mark.parametrize("latency", [0, 0.02])
def test_no_child_hangs_if_it_is_forked_while_other_threads_read(sandbox, latency):
    """In 0.1.0 one of twenty children never came out of the fork, and others hung in their first read."""
    sandbox.latency(latency)
    ended = threading.Event()
    reading = threading.Barrier(9, timeout=60)
    children = 12

    def read(env, number):
        url = f"{sandbox.url()}?thread={number}"
        env.open(url).close()
        reading.wait()
        while not ended.is_set():
            cache.forget(url)
            env.open(url).close()

    with terrascope_env() as env, rasterio.open(sandbox.file()) as local:
        interval = sys.getswitchinterval()
        (window,) = some_windows(1)
        pixels = local.read(1, window=window)

        def renew_and_read(number):
            token = env.token
            assert env.refresh().access_token != token.access_token
            # the very file that a thread is opening
            with rasterio.open(f"{sandbox.url()}?thread={number % 8}") as src:
                np.testing.assert_array_equal(src.read(1, window=window), pixels)
            assert sys.getswitchinterval() == interval

        threads = [threading.Thread(target=read, args=(env, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        reading.wait()
        try:
            for number in range(children):
                in_child(functools.partial(renew_and_read, number), seconds=20)
        finally:
            ended.set()
            for thread in threads:
                thread.join(60)
    assert grants(sandbox.requests(), "password") == 1 + children
    assert tokens_sent(sandbox.requests("data")) == {"valid"}
    assert sys.getswitchinterval() == interval


def test_a_fork_outside_of_any_block_changes_nothing(sandbox):
    def look():
        assert libgdal.get_config_option(S3_REDIRECT) is None

    in_child(look)


@pytest.mark.skipif(sys.platform == "darwin", reason="fork is not safe there")
def test_a_fork_pool(sandbox, tiles):
    with terrascope_env(), multiprocessing.get_context("fork").Pool(2) as pool:
        shapes = pool.map(shape_of, [f"{sandbox.url()}?{n}" for n in range(8)])
    assert set(shapes) == {(36000, 36000)}


def shape_of(url):
    with rasterio.open(url) as src:
        return src.shape


TWO_COPIES = """
import sys, rasterio
from rio_terrascope import terrascope_env as first
for name in [name for name in sys.modules if name.startswith("rio_terrascope")]:
    del sys.modules[name]
copy, url, order = sys.argv[1:]
sys.path.insert(0, copy)
sys.meta_path[:] = [finder for finder in sys.meta_path if "ditable" not in repr(finder)]
import rio_terrascope as second
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.options import HEADER_FILE
from helpers import headers_in_memory

assert second.__file__.startswith(copy)
envs = [first(), second.terrascope_env()]
for env in envs:
    env.__enter__()
assert len(headers_in_memory()) == 2
for number in map(int, order):
    rasterio.open(f"{url}?before-{number}").close()
    envs[number].__exit__()
    with rasterio.Env(CPL_DEBUG="OFF"):
        print(len(headers_in_memory()), libgdal.get_path_option("/vsicurl/" + url, HEADER_FILE) is None)
"""


@pytest.mark.parametrize("order", ["10", "01"])
def test_two_copies_of_the_package_in_one_process(sandbox, tmp_path, order):
    package = Path(rio_terrascope.__file__).parent
    shutil.copytree(package, tmp_path / "rio_terrascope", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", TWO_COPIES, tmp_path, sandbox.url(), order],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["1 False", "0 True"]
    # the first copy takes its read options with it, so GDAL may ask for the directory, which gets no token
    files = [request for request in sandbox.requests("data") if request.path.endswith(".tif")]
    assert tokens_sent(files) == {"valid"}
