"""Output files appear complete or not at all; progress bars on a terminal only."""

import pytest

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_path_that_cannot_be_written(tsread, sandbox):
    line = tsread.fails("read", sandbox.url(), "-o", "no/such/out.tif", "--window", 0, 0, 9, 9)
    assert "cannot write to no/such" in line
    assert line.endswith("Next: name a file in a folder that you can write to.")
    assert sandbox.requests("data") == []


def test_a_disk_without_space(tsread, sandbox, land):
    # a file system that reports no free space
    (tsread.cwd / "sitecustomize.py").write_text(
        "import shutil\nfrom types import SimpleNamespace\n"
        "shutil.disk_usage = lambda path: SimpleNamespace(total=9, used=9, free=0)\n"
    )
    tsread.environ["PYTHONPATH"] = str(tsread.cwd)
    line = tsread.fails("read", sandbox.url(), "-o", "out.tif", "--bbox", *land.bbox)
    assert "no space is left" in line
    assert not (tsread.cwd / "out.tif").exists()


def test_bars_on_a_terminal_only(tsread, sandbox, land):
    assert tsread("stats", sandbox.url(), "--bbox", *land.bbox).stderr == ""


@pytest.mark.parametrize("break_it", ["reset", "gone"])
def test_a_network_that_drops_in_the_middle_leaves_nothing(tsread, sandbox, break_it):
    tsread.environ["GDAL_HTTP_MAX_RETRY"] = "0"
    if break_it == "reset":
        # the file's header comes through, larger reads do not
        sandbox.reset(None, after=33000)
    else:
        sandbox.fail(503, None, method="GET")
    before = set(tsread.cwd.iterdir())
    line = tsread.fails("read", sandbox.url(), "-o", "out.tif", "--bbox", 6, 0, 9, 3)
    assert "Next: " in line
    assert set(tsread.cwd.iterdir()) == before
