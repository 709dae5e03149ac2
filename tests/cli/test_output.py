"""Output files appear complete or not at all; progress bars on a terminal only."""

import os
import stat
from pathlib import Path

import pytest
import rasterio

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


WINDOW = ("--window", 16000, 16500, 9, 9)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs devices, FIFOs and modes")
class TestWhatIsNotAFile:
    """Devices and FIFOs are written to, links are written through, and modes are kept."""

    @pytest.mark.fault(
        "`-o` names a device", sees="it is written to, not replaced", requests="those of the read"
    )
    @pytest.mark.parametrize("more", [(), ("--overwrite",)])
    def test_a_device(self, tsread, sandbox, more):
        device = Path("/dev/null")
        if os.getuid() == 0:  # who might replace it
            device = tsread.cwd / "null"
            os.mknod(device, 0o666 | stat.S_IFCHR, device=os.makedev(1, 3))
        tsread("read", sandbox.url(), "-o", device, *WINDOW, *more)
        assert device.is_char_device()

    @pytest.mark.fault(
        "`-o` names a FIFO", sees="it is written to, not replaced", requests="those of the read"
    )
    def test_a_fifo(self, tsread, sandbox):
        fifo = tsread.cwd / "fifo"
        os.mkfifo(fifo)
        process = tsread.popen("read", sandbox.url(), "-o", "fifo", *map(str, WINDOW))
        written = fifo.read_bytes()
        assert process.communicate(timeout=60) == ("", "")
        with rasterio.MemoryFile(written) as memory, memory.open() as out:
            assert out.shape == (9, 9)
        assert fifo.is_fifo()

    @pytest.mark.fault(
        "`-o` names a link to a file of mode 0600",
        sees="the file is replaced; the link and the mode stay",
        requests="those of the read",
    )
    def test_a_link_and_its_files_mode(self, tsread, sandbox):
        (tsread.cwd / "real.tif").touch(0o600)
        (tsread.cwd / "link.tif").symlink_to("real.tif")
        assert "already exists" in tsread.fails("read", sandbox.url(), "-o", "link.tif", *WINDOW)
        tsread("read", sandbox.url(), "-o", "link.tif", *WINDOW, "--overwrite")
        assert (tsread.cwd / "link.tif").is_symlink()
        assert stat.S_IMODE((tsread.cwd / "real.tif").stat().st_mode) == 0o600
        with rasterio.open(tsread.cwd / "real.tif") as out:
            assert out.shape == (9, 9)
