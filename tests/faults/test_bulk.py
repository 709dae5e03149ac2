"""Every fault of the data server under the bulk functions: right pixels, or an error with URL and status."""

import os
import shutil

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from helpers import HTML, SOON, case
from rio_terrascope import AccessDeniedError, TerrascopeError, read_windows, sample, terrascope_env

BLOCK, COUNT = 256, 16  # 16 blocks in a row; each window is one of them


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A raster whose blocks do not lie beside each other, so that each takes a request."""
    path = tmp_path_factory.mktemp("bulk") / "noise.tif"
    pixels = np.random.default_rng(5).integers(1, 255, (1, BLOCK, 2 * COUNT * BLOCK)).astype("uint8")
    layout = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"}
    with rasterio.open(
        path, "w", driver="GTiff", height=BLOCK, width=2 * COUNT * BLOCK, count=1, dtype="uint8",
        crs="EPSG:32631", transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000), **layout,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    return path


@pytest.fixture
def bulk(sandbox, file, tmp_path):
    """The URL of the raster, its windows, and their pixels."""
    own = shutil.copy(file, tmp_path / "noise.tif")
    windows = [Window(2 * BLOCK * number, 0, BLOCK, BLOCK) for number in range(COUNT)]
    with rasterio.open(own) as local:
        pixels = [local.read(window=window) for window in windows]
    url = sandbox.add_file(own, "noise.tif")
    sandbox.clear()
    return url, windows, pixels, own


LASTING = [
    case(
        "401 with a valid token",
        '`AccessDeniedError`: "401"',
        "at most 5",
        lambda s, f: s.fail(401, times=None),
    ),
    case("403", '`AccessDeniedError`: "403", "licence"', "at most 4", lambda s, f: s.fail(403, times=None)),
    case("404", '`RasterioIOError`: "404"', "at most 4", lambda s, f: s.fail(404, times=None)),
    case(
        "login page",
        '`AccessDeniedError`: "login page"',
        "at most 5",
        lambda s, f: s.fail(200, times=None, **HTML),
    ),
    *[
        case(
            str(status),
            f'`RasterioIOError`: "{status}"',
            "at most 40",
            lambda s, f, n=status: s.fail(n, times=None),
        )
        for status in (429, 500, 502, 503)
    ],
    case(
        "429 with Retry-After: 3600",
        '`RasterioIOError`: "asked again in 3600 s"',
        "at most 4",
        lambda s, f: s.fail(429, times=None, headers={"Retry-After": "3600"}),
    ),
    case(
        "connection reset",
        '`RasterioIOError`: "Connection reset by peer"',
        "at most 40",
        lambda s, f: s.reset(times=None),
    ),
    case(
        "reset in the middle of a body",
        '`RasterioIOError`: "no answer"',
        "at most 40",
        lambda s, f: s.reset(times=None, after=100),
    ),
    case(
        "short body",
        '`RasterioIOError`: "no answer"',
        "at most 40",
        lambda s, f: s.truncate(times=None, after=100),
    ),
    case(
        "wrong Content-Range",
        '`RasterioIOError`: "instead of those that were asked for"',
        "at most 40",
        lambda s, f: s.wrong_content_range(times=None),
    ),
    case(
        "several parts (multipart/byteranges)",
        '`RasterioIOError`: "several parts"',
        "at most 4",
        lambda s, f: s.multipart(times=None),
    ),
    case(
        "no Range support",
        '`RasterioIOError`: "does not support range requests"',
        "at most 4",
        lambda s, f: (os.truncate(f, 64 * 2**20), s.no_ranges()),
    ),
    case(
        "stalled connection",
        '`RasterioIOError`: "it took too long"',
        "at most 40",
        lambda s, f: s.hang(times=None),
    ),
    case(
        "redirect to itself",
        '`RasterioIOError`: "more than 5 redirects"',
        "at most 24",
        lambda s, f: s.fail(302, times=None, match=".tif", headers={"Location": s.url("noise.tif")}),
    ),
]


@pytest.mark.parametrize("stage", ["header", "blocks"])
@pytest.mark.parametrize("prepare", LASTING)
def test_lasting_trouble(row, sandbox, bulk, prepare, stage):
    url, windows, pixels, file = bulk
    with terrascope_env(**SOON) as env:
        arrays = read_windows([(url, window) for window in windows], max_workers=1)
        if stage == "blocks":
            np.testing.assert_array_equal(next(arrays), pixels[0])
        prepare(sandbox, file)
        sandbox.clear()
        with pytest.raises((RasterioIOError, TerrascopeError)) as raised:
            list(arrays)
        row.shows(raised.value)
        assert "noise.tif" in str(raised.value)
        row.costs(sandbox.requests("data"))
        assert len(sandbox.requests("sso")) <= 2
        sandbox.heal()
        env.forget()
        (array,) = read_windows([(url, windows[3])])
        np.testing.assert_array_equal(array, pixels[3])


PASSING = [
    *[
        case(f"{status} twice", "right pixels", "at most 20", lambda s, n=status: s.fail(n, times=2))
        for status in (429, 500, 502, 503)
    ],
    case("401 once", "right pixels", "at most 20", lambda s: s.fail(401)),
    case(
        "429 with Retry-After: 1",
        "right pixels, a second later",
        "at most 20",
        lambda s: s.fail(429, headers={"Retry-After": "1"}),
    ),
    case("connection reset twice", "right pixels", "at most 20", lambda s: s.reset(times=2)),
    case(
        "reset in the middle of two bodies",
        "right pixels",
        "at most 20",
        lambda s: s.reset(times=2, after=100),
    ),
    case("two bodies cut short", "right pixels", "at most 20", lambda s: s.truncate(times=2, after=100)),
    case(
        "bytes of another range, once",
        "right pixels",
        "at most 20",
        lambda s: s.wrong_content_range(shifted=True),
    ),
    case("a login page, once", "right pixels", "at most 20", lambda s: s.fail(200, **HTML)),
    case("revoked token", "right pixels", "at most 24", lambda s: s.revoke_tokens()),
    case("slow drip", "right pixels", "at most 20", lambda s: s.drip(0.002, times=None)),
    case("a connection stalls in a body", "right pixels", "at most 20", lambda s: s.drip(60)),
]


@pytest.mark.parametrize("stage", ["header", "blocks"])
@pytest.mark.parametrize("prepare", PASSING)
def test_passing_trouble(row, sandbox, bulk, prepare, stage):
    url, windows, pixels, _ = bulk
    with terrascope_env(**SOON):
        arrays = read_windows([(url, window) for window in windows], max_workers=2)
        seen = [next(arrays)] if stage == "blocks" else []
        prepare(sandbox)
        seen += arrays
    for array, expected in zip(seen, pixels, strict=True):
        np.testing.assert_array_equal(array, expected)
    row.costs(sandbox.requests("data"))
    assert len(sandbox.requests("sso")) <= 3


@pytest.mark.fault(
    "a file that is replaced while it is read",
    sees='`RasterioIOError`: "the file was replaced"',
    requests="at most 4",
)
def test_replaced(row, sandbox, bulk, tmp_path):
    url, windows, pixels, file = bulk
    with terrascope_env(**SOON):
        arrays = read_windows([(url, window) for window in windows], max_workers=1)
        np.testing.assert_array_equal(next(arrays), pixels[0])
        with rasterio.open(file) as old:
            profile = old.profile
        with rasterio.open(tmp_path / "next.tif", "w", **profile) as new:
            new.write(np.full((1, *new.shape), 7, "uint8"))
        os.utime(tmp_path / "next.tif", (1, 1))
        (tmp_path / "next.tif").replace(file)
        sandbox.clear()
        seen = []
        with pytest.raises(RasterioIOError) as raised:
            seen.extend(arrays)
    for array, expected in zip(seen, pixels[1:], strict=False):
        np.testing.assert_array_equal(array, expected)
    row.shows(raised.value)
    row.costs(sandbox.requests("data"))


@pytest.mark.fault(
    "a file that vanishes while it is read", sees='`RasterioIOError`: "404"', requests="at most 4"
)
def test_vanished(row, sandbox, bulk):
    url, windows, pixels, file = bulk
    with terrascope_env(**SOON):
        arrays = read_windows([(url, window) for window in windows], max_workers=1)
        np.testing.assert_array_equal(next(arrays), pixels[0])
        os.rename(file, f"{file}.gone")
        sandbox.clear()
        with pytest.raises(RasterioIOError) as raised:
            list(arrays)
    row.shows(raised.value)
    row.costs(sandbox.requests("data"))


@pytest.mark.fault(
    "a file that ends before its last blocks", sees='`RasterioIOError`: "outside of the file"', requests="1"
)
def test_cut_file(row, sandbox, bulk):
    url, windows, _, file = bulk
    os.truncate(file, 200_000)
    with terrascope_env(**SOON), pytest.raises(RasterioIOError) as raised:
        list(read_windows([(url, windows[-1])]))
    row.shows(raised.value)
    row.costs(sandbox.requests("data"))


def test_points_see_the_same(sandbox, bulk):
    """One of each kind, by `sample`."""
    url, windows, pixels, _ = bulk
    points = [(500_000 + 10 * (window.col_off + 5.5), 5_000_000 - 55) for window in windows]
    with terrascope_env(**SOON):
        for times in (2, None):
            sandbox.fail(503, times=times)
            if times is None:
                with pytest.raises(RasterioIOError, match="503"):
                    sample(url, points, crs=None)
            else:
                values = sample(url, points, crs=None)
                np.testing.assert_array_equal(values[:, 0], [array[0, 5, 5] for array in pixels])
        sandbox.heal()
        sandbox.deny("noise")
        with pytest.raises(AccessDeniedError):
            sample(url, points, crs=None)
