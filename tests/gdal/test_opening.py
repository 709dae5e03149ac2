"""One thread at a time opens a URL, and reads its whole header. Each caller has a dataset of its own."""

import ctypes
import multiprocessing
import threading

import pytest
import rasterio

from helpers import assert_same_pixels, enter_and_read, some_windows
from rio_terrascope import sample, terrascope_env
from rio_terrascope.gdal import cache, libgdal, opening
from rio_terrascope.gdal.options import vsi_path


def test_threads_that_open_one_url_wait_for_the_first(sandbox, in_threads):
    sandbox.latency(0.05)
    with terrascope_env() as env:
        in_threads(*[lambda: env.open(sandbox.url()).close()] * 8)
    methods = [request.method for request in sandbox.requests("data")]
    assert methods.count("HEAD") == 2, "one look, and GDAL's own"
    assert len(methods) <= 5
    assert len(opening._turns) == 0


def test_other_threads_use_the_header_that_the_first_has_read(sandbox, in_threads):
    sandbox.latency(0.1)  # so that all others wait before the first has finished
    with terrascope_env() as env:
        in_threads(*[lambda: env.open(sandbox.url()).close()] * 8)
        once = len(sandbox.requests("data"))
        in_threads(*[lambda: env.open(sandbox.url()).close()] * 8)
        assert len(sandbox.requests("data")) == once


def test_another_url_does_not_wait(sandbox, in_threads):
    with terrascope_env() as env:
        sandbox.hang(match="?slow", times=1)
        slow, quick = f"{sandbox.url()}?slow", f"{sandbox.url()}?quick"

        def open_quick():
            sandbox.wait_for(lambda requests: any(r.query == "slow" for r in requests), server="data")
            env.open(quick).close()
            sandbox.heal()  # ends the hanging request

        in_threads(lambda: env.open(slow).close(), open_quick)


def test_masks_and_overviews_are_in_memory(sandbox, local):
    """rasterio reads them with the GIL held, so a request could block the whole process."""
    with terrascope_env() as env, env.open(sandbox.url()) as src:
        cache.forget(sandbox.url())
        sandbox.clear()
        assert src.overviews(1) == local.overviews(1)
        assert src.mask_flag_enums == local.mask_flag_enums
        assert src.nodata == local.nodata
        assert sandbox.requests("data") == []
        assert_same_pixels(src, local, some_windows(1))


@pytest.fixture
def open_datasets(tmp_path):
    """Return GDAL's own list of the datasets that are open: a line for each."""
    lib, libc = libgdal.load(), ctypes.CDLL(None)
    lib.GDALDumpOpenDatasets.argtypes = libc.fclose.argtypes = [ctypes.c_void_p]
    libc.fopen.restype = ctypes.c_void_p

    def lines(name):
        listed = tmp_path / "open-datasets"
        file = libc.fopen(bytes(listed), b"w")
        lib.GDALDumpOpenDatasets(file)
        libc.fclose(file)
        return [line for line in listed.read_text().splitlines() if line.endswith(name)]

    return lines


@pytest.mark.parametrize("options", [{}, {"OVERVIEW_LEVEL": 1}, {"driver": "GTiff"}])
def test_no_dataset_reaches_two_callers(sandbox, local, open_datasets, in_threads, options):
    """GDAL shares datasets within a thread, and the system uses the ids of threads that have ended again."""
    kept, ids = [], set()
    each = 2 if "OVERVIEW_LEVEL" in options else 1  # an overview keeps its file open

    def keep():
        ids.add(threading.get_ident())
        kept.append(env.open(sandbox.url(), **options))

    with terrascope_env() as env:
        for _ in range(200):
            in_threads(keep)
        keep()
        keep()  # in this thread, too
        assert len(ids) < 100, "no id was used again, so this shows nothing"
        assert [line.split()[0] for line in open_datasets(vsi_path(sandbox.url()))] == ["1"] * 202 * each
        for dataset in kept[:100]:
            dataset.close()
        assert len(open_datasets(vsi_path(sandbox.url()))) == 102 * each
        if not options:
            in_threads(
                *[lambda src=src: assert_same_pixels(src, local, some_windows(2)) for src in kept[100:108]]
            )
        for dataset in kept[100:]:
            dataset.close()
    assert open_datasets(vsi_path(sandbox.url())) == []


def test_a_dataset_that_the_user_shares_is_another_one(sandbox, open_datasets):
    with (
        terrascope_env() as env,
        env.open(sandbox.url()) as ours,
        rasterio.open(sandbox.url(), sharing=True),
        rasterio.open(sandbox.url(), sharing=True),
    ):
        found = sorted(line.split()[0] for line in open_datasets(vsi_path(sandbox.url())))
        assert found == ["1", "2"]
        assert ours.options == {}


def test_arguments_are_those_of_rasterio(sandbox, local):
    with terrascope_env() as env:
        with env.open(sandbox.url(), "r", "GTiff", num_threads=2, Overview_Level=1) as src:
            assert src.shape == tuple(-(-side // 4) for side in local.shape)
            assert src.options == {"num_threads": 2, "Overview_Level": 1}
        with env.open(sandbox.url().replace("http:", "HTTP:")) as src:
            assert src.name == sandbox.url()
            assert_same_pixels(src, local, some_windows(1))
        with pytest.raises(rasterio.errors.RasterioIOError):
            env.open(sandbox.url(), driver="PNG")
        with pytest.raises(TypeError):
            env.open(sandbox.url(), driver=3)


def test_the_same_without_a_login(sandbox, local):
    points = [local.xy(20000, 9000), local.xy(21000, 9500)]
    seen = sample(sandbox.other_url("?open"), points, max_workers=2)
    assert seen.data.tolist() == [values.tolist() for values in local.sample(points)]
    requests = sandbox.requests("other")  # for the header and the blocks; none to look first
    assert 1 <= len(requests) <= 3
    assert {(request.method, request.authorization) for request in requests} == {("GET", "none")}


def test_a_child_that_is_forked_while_a_thread_opens(sandbox):
    """The child does not inherit the thread's lock."""
    here, there = multiprocessing.Pipe()
    url, file = sandbox.url(), sandbox.file()
    with terrascope_env(), opening._turn(vsi_path(url)):
        child = multiprocessing.get_context("fork").Process(target=open_and_tell, args=(url, file, there))
        child.start()
        assert here.poll(30), "it hangs"
        assert here.recv() == "opened"
        here.send("stop")
        assert here.recv() >= 1
    child.join(30)


def open_and_tell(url, file, pipe):
    with terrascope_env() as env:
        env.open(url).close()
    enter_and_read(url, file, pipe)
