"""One thread at a time opens a URL, and reads its whole header. opening.py says what could hang otherwise."""

import multiprocessing

from helpers import assert_same_pixels, enter_and_read, some_windows
from rio_terrascope import sample, terrascope_env
from rio_terrascope.gdal import cache, opening
from rio_terrascope.gdal.options import vsi_path


def test_threads_that_open_one_url_wait_for_the_first(sandbox, in_threads):
    sandbox.latency(0.05)
    with terrascope_env() as env:
        in_threads(*[lambda: env.open(sandbox.url()).close()] * 8)
    methods = [request.method for request in sandbox.requests("data")]
    assert methods.count("HEAD") == 1
    assert len(methods) <= 4
    assert opening._turns == {}


def test_other_threads_use_the_header_that_the_first_has_read(sandbox, in_threads, monkeypatch):
    """Only the first thread reads the directories; the others find them in GDAL's cache."""
    calls, read_directories = [], opening.read_directories

    def counting(path):
        calls.append(path)
        return read_directories(path)

    monkeypatch.setattr(opening, "read_directories", counting)
    sandbox.latency(0.1)  # so that all others wait before the first has finished
    with terrascope_env() as env:
        in_threads(*[lambda: env.open(sandbox.url()).close()] * 8)
        assert len(calls) == 2
        env.forget(sandbox.url())
        env.open(sandbox.url()).close()
        assert len(calls) == 4


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


def test_the_same_without_a_login(sandbox, local):
    points = [local.xy(20000, 9000), local.xy(21000, 9500)]
    seen = sample(sandbox.other_url("?open"), points, max_workers=2)
    assert seen.data.tolist() == [values.tolist() for values in local.sample(points)]
    assert [request.method for request in sandbox.requests("other")].count("HEAD") == 1


def test_a_child_that_is_forked_while_a_thread_opens(sandbox):
    """The child does not inherit the thread's lock."""
    here, there = multiprocessing.Pipe()
    url, file = sandbox.url(), sandbox.file()
    with terrascope_env(), opening._one_at_a_time(vsi_path(url)):
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
