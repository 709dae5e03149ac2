"""Errors of GDAL, of the system and of the user are one line that ends with the next step."""

import shutil

import pytest
from rasterio.errors import CRSError, RasterioError, RasterioIOError

from rio_terrascope.cli.errors import describe_error

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def cut_in_half(sandbox, tmp_path):
    """A file whose header is complete, and whose last blocks are missing."""
    half = tmp_path / "half.tif"
    shutil.copy(sandbox.file(), half)
    with half.open("r+b") as file:
        file.truncate(half.stat().st_size // 2)
    return half


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
    missing = "No such file or directory. Next: check the path."
    assert tsread.fails("info", "none.tif") == f"Error: none.tif: {missing}"
    assert tsread.fails("stats", "no/such.tif") == f"Error: no/such.tif: {missing}"
    (tsread.cwd / "text.tif").write_text("text")
    assert "text.tif is not a raster" in tsread.fails("stats", "text.tif")


WINDOW = ("--window", 16000, 16000, 2000, 2000)


@pytest.mark.parametrize("command", [("read", "-o", "out.tif", *WINDOW), ("stats",)], ids=["read", "stats"])
def test_a_file_that_breaks_off(tsread, sandbox, cut_in_half, command):
    url = sandbox.add_file(cut_in_half, "/download/half.tif")
    line = tsread.fails(command[0], url, *command[1:])
    assert line.startswith(f"Error: {url}: a block lies outside of the file")
    assert line.endswith("Next: try again, or see 'tsread doctor URL'.")
    assert not (tsread.cwd / "out.tif").exists()


def test_a_local_file_that_breaks_off(stranger, cut_in_half):
    line = stranger.fails("stats", cut_in_half)
    assert "it may be damaged" in line


def test_a_program_that_may_not_be_run(tsread, tmp_path):
    program = tmp_path / "program"
    program.write_text("not executable")
    assert "permission denied" in tsread.fails("exec", "--", program, code=126)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CRSError("The PROJ string is unknown."), "Next: give the CRS as rio does"),
        (RasterioError("no bands"), "no bands."),
        (ValueError("a box is four numbers"), "a box is four numbers."),
        (MemoryError(), "a smaller box"),
        (
            ZeroDivisionError("division by zero"),
            "unexpected ZeroDivisionError: division by zero. Next: run 'tsread -vv",
        ),
        (RasterioIOError("HTTP response code: 403"), "the server refuses it (403)"),
        (RasterioIOError("https://a.b/c.tif: HTTP response code: 503"), "a.b is in trouble, it answered 503"),
        (
            RasterioIOError("https://a.b/c.tif: the answer cannot be used: the answer is a web page"),
            "c.tif: the answer cannot be used: the answer is a web page. Next: try again, or see 'tsread",
        ),
        (
            RasterioIOError("https://a.b/c.tif: no answer: the connection failed (Connection refused)"),
            "a.b cannot be reached (the connection failed (Connection refused)). Next: check the URL",
        ),
        (
            RasterioIOError("https://a.b/c.tif: HTTP response code: 429, come back. Next: try again later."),
            "c.tif: HTTP response code: 429, come back. Next: try again later.",
        ),
        (
            RasterioIOError("https://a.b/c.tif: Read failed. See previous exception for details."),
            "c.tif: the pixels cannot be read (Read failed. See previous exception for details). Next: try",
        ),
        (RasterioIOError("CURL error: Could not resolve host: a.b"), "Next: check the URL and your network."),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_one_line(error, words):
    line = describe_error(error)
    assert words in line
    assert "\n" not in line
