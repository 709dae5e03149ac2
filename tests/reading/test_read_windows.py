"""read_windows: order, pixels, edges, failures, and how far ahead it goes."""

import itertools
import shutil
import threading

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from rio_terrascope import AccessDeniedError, read_windows

from .conftest import write_noise


def windows(count, size=100, limit=2048, seed=0):
    rng = np.random.default_rng(seed)
    return [Window(int(c), int(r), size, size) for c, r in rng.integers(0, limit - size, (count, 2))]


def assert_same(arrays, file, expected_windows):
    with rasterio.open(file) as local:
        for array, window in itertools.zip_longest(arrays, expected_windows):
            np.testing.assert_array_equal(array, local.read(window=window))


def test_in_order_over_http_while_tokens_expire(server, inside, tiles):
    some = [Window(5600 + 150 * i, 16000 + 90 * i, 300, 300) for i in range(60)]
    assert_same(read_windows((server.url(), window) for window in some), tiles[0], some)


def test_files_take_turns(server, inside, tiles, data_requests):
    some = windows(40, limit=35000)
    requests = [(url, window) for window in some for url in server.urls]
    arrays = list(read_windows(requests))
    for index, file in enumerate(tiles):
        assert_same(arrays[index::2], file, some)
    # each file's header is requested once, and nothing but its first bytes tells its size
    assert {request.method for request in data_requests()} == {"GET"}
    assert sum(request.range.startswith("bytes=0-") for request in data_requests()) == 2


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "window",
    [
        Window(-30, -40, 100, 90),
        Window(2000, 2040, 100, 90),
        Window(3000, 0, 10, 10),
        Window(-5, 10, 3000, 3),
    ],
)
@pytest.mark.parametrize("where", ["a local file", "over HTTP"])
def test_windows_over_edges_keep_their_shape(server, inside, noise, where, window, masked):
    url = noise if where == "a local file" else server.add_file(noise, "noise.tif")
    (array,) = read_windows([(url, window)], masked=masked)
    with rasterio.open(noise) as local:
        expected = local.read(window=window, boundless=True, fill_value=0, masked=masked)
    np.testing.assert_array_equal(np.ma.getdata(array), np.ma.getdata(expected))
    assert array.shape == (1, window.height, window.width)
    if masked:
        np.testing.assert_array_equal(np.ma.getmaskarray(array), array.data == 0)


def test_each_block_is_fetched_once(server, inside, noise, data_requests):
    """However many windows share it. Neighbours come in one request."""
    url = server.url("noise.tif")
    corners = [Window(156 + 256 * (i % 7), 156 + 256 * (i // 7), 200, 200) for i in range(49)]
    assert_same(read_windows([(url, window) for window in corners * 3]), noise, corners * 3)
    ranges = [request.range for request in data_requests()]
    assert len(set(ranges)) == len(ranges) <= 1 + 64 / 8 + 1
    assert sum(request.sent for request in data_requests()) <= noise.stat().st_size + 40 * 1024


def test_an_endless_list_is_read_no_further_than_needed(noise):
    taken = itertools.count()

    def endless():
        for window in itertools.cycle(windows(50)):
            next(taken)
            yield noise, window

    arrays = read_windows(endless(), max_workers=3)
    for _ in range(20):
        next(arrays)
    arrays.close()
    assert next(taken) <= 20 + 2 * 3
    assert not [t for t in threading.enumerate() if t.name.startswith("rio-terrascope-read")]


def test_closing_makes_no_further_requests(server, inside, noise):
    url = server.url("noise.tif")
    arrays = read_windows(((url, window) for window in windows(1000)), max_workers=2)
    next(arrays)
    arrays.close()
    count = len(server.requests("data"))
    with rasterio.open(server.urls[0]) as dataset:  # succeeds, so the server is not just slow
        dataset.read(1, window=Window(8192, 20480, 100, 100))
    assert sum("noise" in request.path for request in server.requests("data")) <= count


def test_a_file_that_vanishes_in_the_middle(server, inside, noise, tmp_path):
    file = tmp_path / "vanishing.tif"
    shutil.copy(noise, file)
    url = server.add_file(file, "vanishing.tif")
    places = [Window(256 * (i % 8), 256 * (i // 8), 256, 256) for i in range(64)]
    taken = itertools.count()
    arrays = read_windows(((url, w) for w in places if next(taken) >= 0), max_workers=1)
    next(arrays)
    file.unlink()
    with pytest.raises(RasterioIOError, match=r"vanishing.tif: .*404"):
        list(arrays)
    assert next(taken) < 10
    file.touch()


def test_a_failure_comes_in_its_turn_and_drops_the_rest(server, inside, noise, data_requests):
    good, bad = server.url("noise.tif"), server.url("absent.tif")
    some = windows(30)
    requests = [(good, w) for w in some[:5]] + [(bad, some[5])] + [(good, w) for w in some[6:]]
    arrays = read_windows(requests, max_workers=2)
    assert_same(itertools.islice(arrays, 5), noise, some[:5])
    with pytest.raises(RasterioIOError, match=r"absent.tif: .*404"):
        next(arrays)
    with pytest.raises(StopIteration):
        next(arrays)
    assert len(data_requests()) < 5 * 4 + 2 * 2 * 4


def test_refused_in_the_middle(server, inside, noise):
    url = server.add_file(noise, "licensed.tif")
    arrays = read_windows(((url, w) for w in windows(64, seed=3)), max_workers=1)
    next(arrays)
    server.fail(403, times=None, match="licensed")
    with pytest.raises(AccessDeniedError, match=r"licensed.tif.*403"):
        list(arrays)


def test_a_read_that_fails_once_is_tried_again(server, inside, noise):
    url = server.add_file(noise, "shaky.tif")
    places = [Window(256 * (i % 8), 256 * (i // 8), 256, 256) for i in range(16)]
    arrays = read_windows(((url, w) for w in places), max_workers=1)
    first = next(arrays)
    server.fail(401, times=1, match="shaky")
    assert_same([first, *arrays], noise, places)


def test_a_users_options_hold_in_the_workers(noise):
    with rasterio.Env(GDAL_CACHEMAX=64, SOME_OPTION="here"):
        assert_same(read_windows([(noise, w) for w in windows(5)]), noise, windows(5))


def test_from_a_thread(server, inside, noise):
    some, results = windows(20), []
    thread = threading.Thread(
        target=lambda: results.extend(read_windows([(server.url("noise.tif"), w) for w in some]))
    )
    thread.start()
    thread.join(30)
    assert_same(results, noise, some)


def test_progress(noise):
    calls = []
    list(read_windows([(noise, w) for w in windows(3)], progress=lambda *numbers: calls.append(numbers)))
    list(read_windows(((noise, w) for w in windows(2)), progress=lambda *numbers: calls.append(numbers)))
    assert calls == [(1, 3), (2, 3), (3, 3), (1, None), (2, None)]


@pytest.mark.parametrize(
    "request_",
    [
        "noise.tif",
        ("noise.tif",),
        (None, Window(0, 0, 1, 1)),
        ("x", (0, 0, 1, 1)),
        ("x", Window(0.5, 0, 1, 1)),
        ("x", Window(0, 0, 0, 1)),
    ],
)
def test_requests_that_make_no_sense(request_):
    with pytest.raises(ValueError, match=r"pair|fractions|empty"):
        list(read_windows([request_]))


def test_many_more_files_than_are_kept_open(tmp_path):
    files = [write_noise(tmp_path / f"{i}.tif", west=i, size=256) for i in range(12)]
    requests = [(file, Window(0, 0, 50, 50)) for file in files for _ in range(3)]
    for (file, window), array in zip(requests, read_windows(requests, max_workers=2), strict=True):
        assert_same([array], file, [window])


def test_at_least_one_worker(noise):
    with pytest.raises(ValueError, match="max_workers"):
        read_windows([], max_workers=0)
