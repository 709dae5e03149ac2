"""The header in GDAL's memory: replaced whole, removed, and put back if it is lost."""

import threading

import pytest
import rasterio

from helpers import assert_same_pixels, headers_in_memory, some_windows
from rio_terrascope import terrascope_env
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.header import Header


def content(header):
    lib = libgdal.load()
    file = lib.VSIFOpenL(header.path.encode(), b"rb")
    buffer = b"\0" * 10_000
    size = lib.VSIFReadL(buffer, 1, len(buffer), file)
    lib.VSIFCloseL(file)
    return buffer[:size]


def test_written_and_removed():
    header = Header()
    assert not header.is_there
    header.write("one")
    header.write("two")
    assert content(header) == b"Authorization: Bearer two\n"
    assert headers_in_memory() == [header.path]
    header.remove()
    header.remove()
    assert not header.is_there
    assert headers_in_memory() == []


def test_names_are_random_and_not_shown():
    first, second = Header(), Header()
    assert first.path != second.path
    assert len(first.path.split("/")[3]) == 32
    assert first.path.split("/")[3] not in repr(first)


def test_readers_find_the_old_line_or_the_new_one():
    header = Header()
    header.write("a" * 4000)
    done = threading.Event()
    wrong = []

    def read():
        while not done.is_set():
            if len(set(content(header)[22:-1])) != 1:
                wrong.append(content(header))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1000):
        header.write(str(number % 10) * 4000)
    done.set()
    for reader in readers:
        reader.join()
    header.remove()
    assert wrong == []


@pytest.mark.fault(
    "other code empties GDAL's memory (`/vsimem/`), where the token is",
    sees="right pixels (`env.open`; any open within a second)",
    requests="0 without the token",
)
def test_it_is_put_back_when_somebody_empties_the_memory(sandbox, local):
    with terrascope_env() as env:
        for path in headers_in_memory():
            libgdal.load().VSIUnlink(path.encode())
        with env.open(sandbox.url()) as src:
            assert_same_pixels(src, local, some_windows(2))
    assert {request.authorization for request in sandbox.requests("data")} == {"valid"}


def test_the_refresh_thread_puts_it_back_too(sandbox):
    with terrascope_env() as env:
        (path,) = headers_in_memory()
        libgdal.load().VSIUnlink(path.encode())
        env.tokens._tell_again()  # as every second
        rasterio.open(sandbox.url()).close()
