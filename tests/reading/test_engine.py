"""The engine: order, shared blocks, memory, what is fetched whole, and what is left to GDAL."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope import read_windows
from rio_terrascope.reading import engine as engine_module
from rio_terrascope.reading import pieces as pieces_module
from rio_terrascope.reading import tiff
from rio_terrascope.reading.engine import Engine
from rio_terrascope.reading.jobs import Ready, Request
from rio_terrascope.reading.parts import Part
from rio_terrascope.reading.raster import Raster

from .conftest import write_noise


def request(url, window, **more):
    return Request(url, lambda _: Part.of(window, [1]), Part.read, **more)


def some_windows(count, size=100):
    rng = np.random.default_rng(count)
    return [Window(int(c), int(r), size, size) for c, r in rng.integers(0, 2048 - size, (count, 2))]


@pytest.fixture
def url(server, inside, noise):
    return server.url("noise.tif")


def test_results_come_in_order_whatever_they_are(url, noise):
    def fail(_):
        raise ValueError("no part")

    window = Window(0, 0, 5, 5)
    requests = [
        Ready("ready"),
        request(url, window),
        request(noise, window),
        Request(url, fail, Part.read, otherwise=str),
        Request(url, lambda _: None, lambda _, dataset: dataset.shape),
        Request(f"{url}.absent", fail, Part.read, otherwise=lambda error: "404" in str(error)),
    ]
    with Engine() as engine, rasterio.open(noise) as local:
        ready, remote, near, failed, shape, absent = engine.run(requests)
        np.testing.assert_array_equal(remote, local.read(window=window))
        np.testing.assert_array_equal(near, local.read(window=window))
    assert (ready, failed, shape, absent) == ("ready", "no part", (2048, 2048), True)


def test_an_engine_runs_one_list_after_the_other(url, noise, data_requests):
    with Engine() as engine, rasterio.open(noise) as local:
        for window in some_windows(3):
            (pixels,) = engine.run([request(url, window)])
            np.testing.assert_array_equal(pixels, local.read(window=window))
    assert sum(request.range.startswith("bytes=0-") for request in data_requests()) == 1


def test_blocks_are_kept_for_windows_to_come(url, noise, data_requests):
    """A list much longer than what is looked ahead, which comes back to the same blocks."""
    windows = some_windows(60)
    assert len(list(read_windows([(url, window) for window in windows], max_workers=1))) == 60
    ranges = [request.range for request in data_requests()]
    assert len(ranges) == len(set(ranges))


def test_memory_is_bounded_by_bytes(url, monkeypatch):
    """Results that nobody takes stop the engine, except for the next one."""
    monkeypatch.setattr(engine_module, "_MOST_DECODED", 300_000)
    read = []

    def note(part, dataset):
        read.append(part)
        return part.read(dataset)

    window = Window(0, 0, 256, 256)  # a block: 64 KB of bytes, 64 KB of pixels and as much for a mask
    requests = [Request(url, lambda _: Part.of(window, [1]), note) for _ in range(50)]
    with Engine() as engine:
        results = engine.run(requests)
        next(results)
        engine.run([])
        assert len(read) <= 3
        assert len(list(results)) == 49


def test_one_result_larger_than_the_memory(url, noise, monkeypatch):
    monkeypatch.setattr(engine_module, "_MOST_FETCHED", 1000)
    monkeypatch.setattr(engine_module, "_MOST_DECODED", 1000)
    whole = Window(0, 0, 2048, 2048)
    with rasterio.open(noise) as local:
        for pixels in read_windows([(url, whole)] * 3):
            np.testing.assert_array_equal(pixels, local.read())


def test_headers_of_many_files_do_not_pile_up(server, inside, noise, monkeypatch, data_requests):
    monkeypatch.setattr(engine_module, "_MOST_IDLE", 100_000)  # three headers
    urls = [server.add_file(noise, f"many/{number}.tif") for number in range(20)]
    with Engine() as engine:
        list(engine.run(request(url, Window(0, 0, 5, 5)) for url in urls))
        assert len(engine._remotes) <= 3
        list(engine.run([request(urls[-1], Window(0, 0, 5, 5)), request(urls[0], Window(0, 0, 5, 5))]))
    assert sum(request.range.startswith("bytes=0-") for request in data_requests()) == 21


def test_what_is_no_tiff_is_fetched_whole(server, inside, tmp_path, data_requests):
    pixels = np.random.default_rng(4).integers(0, 255, (1, 1200, 1100)).astype("uint8")
    path = tmp_path / "noise.png"
    with rasterio.open(path, "w", driver="PNG", width=1100, height=1200, count=1, dtype="uint8") as png:
        png.write(pixels)
    url = server.add_file(path, "noise.png")
    windows = some_windows(5, size=900)
    for window, array in zip(windows, read_windows([(url, window) for window in windows]), strict=True):
        expected = np.zeros((1, 900, 900), "uint8")
        part = pixels[:, window.row_off : window.row_off + 900, window.col_off : window.col_off + 900]
        expected[:, : part.shape[1], : part.shape[2]] = part
        np.testing.assert_array_equal(array, expected)
    assert {request.method for request in data_requests()} == {"GET"}
    assert sum(request.sent for request in data_requests()) == path.stat().st_size


def test_a_vrt_is_left_to_gdal(server, inside, noise, tmp_path):
    """It names other files, relative to its own place."""
    path = tmp_path / "noise.vrt"
    with rasterio.open(noise) as local:
        rasterio.shutil.copy(local, path, driver="VRT")
        text = path.read_text().replace(str(noise), "noise.tif").replace(noise.name, "noise.tif")
        path.write_text(text.replace('relativeToVRT="0"', 'relativeToVRT="1"'))
        windows = some_windows(5)
        server.add_file(noise, "vrt/noise.tif")
        url = server.add_file(path, "vrt/noise.vrt")
        arrays = read_windows([(url, window) for window in windows])
        for window, array in zip(windows, arrays, strict=True):
            np.testing.assert_array_equal(array, local.read(window=window))


def test_a_block_that_gdal_cannot_decode_is_fetched_once_more(server, inside, tmp_path, data_requests):
    path = write_noise(tmp_path / "packed.tif", compress="deflate")
    url = server.add_file(path, "packed.tif")
    window = Window(300, 300, 50, 50)
    with rasterio.open(path) as local:
        offset, length = (
            int(local.get_tag_item(f"BLOCK_{what}_1_1", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE")
        )
        expected = local.read(window=window)
    said = {"Content-Range": f"bytes {offset}-{offset + length - 1}/{path.stat().st_size}"}
    garbage = {"headers": said, "body": b"x" * length, "content_type": "image/tiff", "skip": 1}
    server.fail(206, **garbage)
    (array,) = read_windows([(url, window)])
    np.testing.assert_array_equal(array, expected)
    assert len(data_requests()) == 3
    server.fail(206, times=2, **garbage)
    with pytest.raises(RasterioIOError, match=r"packed\.tif: "):
        list(read_windows([(url, window)]))


@pytest.fixture
def sent(server):
    return lambda: sum(request.sent for request in server.requests("data"))


def reduced(url, factor, at):
    size = 200 * factor
    return Request(url, lambda _: Part(Window(at, at, size, size), (200, 200), [1]), Part.read)


def test_offsets_of_blocks_are_fetched_when_an_image_is_read(server, inside, big_header, data_requests, sent):
    """The arrays of the raster have 96 KB. Those of the overviews come along with their directories."""
    url = server.add_file(big_header, "big-header.tif")
    with Engine() as engine:
        (profile,) = engine.run([Request(url, lambda _: None, lambda _, dataset: dataset.profile)])
        assert sent() < 48_000
        some = [(factor, at) for factor in (2, 1, 4) for at in (0, 1100)] * 2
        arrays = list(engine.run(reduced(url, *one) for one in some))
        with rasterio.open(big_header) as local, rasterio.Env(GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD="1"):
            assert profile == local.profile
            for (factor, at), array in zip(some, arrays, strict=True):
                window = Window(at, at, 200 * factor, 200 * factor)
                np.testing.assert_array_equal(array, local.read(window=window, out_shape=(1, 200, 200)))
    ranges = [request.range for request in data_requests()]
    assert len(ranges) == len(set(ranges))
    assert sent() > 32_768 + 98_304


def test_several_images_whose_offsets_are_left_out(server, inside, big_header, monkeypatch):
    for name in ("_SMALL", "_AHEAD"):
        monkeypatch.setattr(tiff, name, 0)
    url = server.add_file(big_header, "big-header.tif")
    with (
        Engine() as engine,
        rasterio.open(big_header) as local,
        rasterio.Env(GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD="1"),
    ):
        for factors in ([1, 2, 1, 2], [4, 1, 8]):  # the second time, some are there
            arrays = list(engine.run(reduced(url, factor, 10) for factor in factors))
            for factor, array in zip(factors, arrays, strict=True):
                window = Window(10, 10, 200 * factor, 200 * factor)
                np.testing.assert_array_equal(array, local.read(window=window, out_shape=(1, 200, 200)))


def test_offsets_of_blocks_that_do_not_come(server, inside, big_header):
    url = server.add_file(big_header, "big-header.tif")
    with Engine() as engine:
        (before,) = engine.run([reduced(url, 2, 0)])
        server.fail(404)
        with pytest.raises(RasterioIOError, match="404"):
            list(engine.run([reduced(url, 1, 0), reduced(url, 1, 1000)]))
    with Engine() as engine:
        after, _ = engine.run([reduced(url, 2, 0), reduced(url, 1, 0)])
    np.testing.assert_array_equal(before, after)


def test_a_raster_is_looked_at_and_read(url, noise):
    with Raster(url) as raster, rasterio.open(noise) as local:
        assert raster.dataset.profile == local.profile
        assert raster.dataset.name == url
        with pytest.raises(RasterioIOError):
            raster.dataset.read(1)
        parts = [Part.of(window, [1]) for window in some_windows(5)]
        for part, pixels in zip(parts, raster.read(parts, Part.read), strict=True):
            np.testing.assert_array_equal(pixels, local.read(window=part.window))


def test_ranges_that_fail_after_nobody_needs_them(server, inside, noise, monkeypatch):
    """A window over four blocks fails with the first. The others come later, when its file is let go of."""
    monkeypatch.setattr(engine_module, "_MOST_IDLE", 0)
    monkeypatch.setattr(pieces_module, "_MOST_UNUSED", 0)
    broken = server.add_file(noise, "broken.tif")
    good = server.add_file(noise, "good.tif")
    over_four = Window(0, 0, 2048, 2048)
    server.fail(404, times=None, match="broken", skip=1)
    requests = [
        work
        for window in some_windows(20)
        for work in (request(broken, over_four, otherwise=lambda error: None), request(good, window))
    ]
    with Engine() as engine, rasterio.open(noise) as local:
        results = list(engine.run(requests))
        for window, pixels in zip(some_windows(20), results[1::2], strict=True):
            np.testing.assert_array_equal(pixels, local.read(window=window))
    assert results[::2] == [None] * 20


def test_a_range_that_fails_when_unused_is_forgotten_once(monkeypatch):
    monkeypatch.setattr(pieces_module, "_MOST_UNUSED", 10)
    pieces = pieces_module.Pieces()
    first, _ = pieces.use("file", (0, 6))
    pieces.release(first)
    pieces.drop(first)
    again, is_new = pieces.use("file", (0, 6))
    assert is_new
    for offset in (100, 200, 300):
        other, _ = pieces.use("file", (offset, 6))
        pieces.release(other)
    assert pieces.find("file", (0, 6)) is again
