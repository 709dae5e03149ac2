"""Every fault of the data server: what the user sees, the number of requests, and that no pixel is wrong."""

import contextlib
import itertools
import os
import shutil

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from helpers import HTML, SOON, case, tokens_sent
from rio_terrascope import TerrascopeError, read_bbox, read_windows, sample, terrascope_env, worldcover
from rio_terrascope.opening import look

LASTING = [
    case("401 with a valid token", '`AccessDeniedError`: "401"', "3", lambda s: s.fail(401, times=None)),
    case("403", '`AccessDeniedError`: "403", "licence"', "3", lambda s: s.fail(403, times=None)),
    case("404", '`RasterioIOError`: "404"', "1", lambda s: s.fail(404, times=None)),
    case("login page", '`AccessDeniedError`: "login page"', "9", lambda s: s.fail(200, times=None, **HTML)),
    *[
        case(
            str(status),
            '`RasterioIOError`: "HTTP response code"',
            "4",
            lambda s, n=status: s.fail(n, times=None),
        )
        for status in (429, 500, 502, 503)
    ],
    case(
        "connection reset",
        '`RasterioIOError`: "Connection reset by peer"',
        "at most 12",
        lambda s: s.reset(times=None),
    ),
    case(
        "reset in the middle of the header",
        '`RasterioIOError`: "breaks in the middle of the header"',
        "5",
        lambda s: s.reset(times=None, after=3000),
    ),
    case(
        "short body",
        '`RasterioIOError`: "breaks in the middle of the header"',
        "5",
        lambda s: s.truncate(times=None, after=3000),
    ),
    case(
        "bytes of another range",
        '`RasterioIOError`: "not recognized"',
        "at most 4",
        lambda s: s.wrong_content_range(times=None, shifted=True),
    ),
    case(
        "no Range support",
        '`RasterioIOError`: "Range downloading not supported"',
        "at most 3",
        lambda s: s.no_ranges(),
    ),
    case(
        "stalled connection",
        '`RasterioIOError`: "it took too long"',
        "at most 4",
        lambda s: s.hang(times=None),
    ),
    case(
        "redirect to itself",
        '`RasterioIOError`: "more than 10 redirects"',
        "11",
        lambda s: s.fail(302, times=None, match=".tif", headers={"Location": s.url()}),
    ),
]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("prepare", LASTING)
def test_trouble_when_opening(row, sandbox, reads_right, prepare):
    with terrascope_env(**SOON) as env:
        prepare(sandbox)
        with pytest.raises((RasterioIOError, TerrascopeError)) as raised:
            env.open(sandbox.url())
        row.shows(raised.value)
        row.costs(sandbox.requests("data"))
        if isinstance(raised.value, TerrascopeError):
            assert sandbox.url() in str(raised.value)
            assert "Next: " in str(raised.value)
        assert len(sandbox.requests("sso")) <= 2
        sandbox.heal()
        with env.open(sandbox.url()) as src:  # the failure is not remembered
            reads_right(src)


LASTING_WHILE_OPEN = [pytest.param(*p.values, id=p.id) for p in LASTING]  # without their marks


def asked(sandbox):
    """Return the requests to the data server, without those that GDAL made to follow redirects."""
    requests = sandbox.requests("data")
    # if all were redirected, GDAL followed ten redirects of each
    return [request for request in requests if request.status != 302] or requests[::11]


@pytest.mark.fault(
    "any of these in a dataset that is open",
    sees='`RasterioIOError`: "Read failed"; it reads on when the trouble is over',
    requests="at most 15 (a redirect to itself: 55)",
)
@pytest.mark.parametrize("prepare", LASTING_WHILE_OPEN)
def test_trouble_when_reading(row, sandbox, reads_right, prepare, tmp_path):
    # larger than what the sockets' buffers take before GDAL breaks off
    large = shutil.copy(sandbox.file(), tmp_path / "large.tif")
    os.truncate(large, 64 * 2**20)
    url = sandbox.add_file(large, "large.tif")
    with terrascope_env(**SOON), rasterio.open(url) as src:
        reads_right(src)
        prepare(sandbox)
        sandbox.clear()
        with pytest.raises(RasterioIOError) as raised:
            reads_right(src)
        row.shows(raised.value)
        row.costs(asked(sandbox))
        # even if the server ignores ranges, GDAL does not download the whole file
        assert sum(request.sent for request in sandbox.requests("data")) < large.stat().st_size
        assert sandbox.requests("sso") == []
        sandbox.heal()
        for _ in range(3):
            reads_right(src)


def assert_same_layout(src, local):
    assert src.profile == local.profile
    assert src.colormap(1) == local.colormap(1)
    assert src.overviews(1) == local.overviews(1)


PASSING = [
    *[
        case(f"{status} twice", "right pixels", "at most 9", lambda s, n=status: s.fail(n, times=2))
        for status in (429, 500, 502, 503)
    ],
    case(
        "429 with Retry-After, which GDAL does not heed",
        "right pixels",
        "at most 9",
        lambda s: s.fail(429, headers={"Retry-After": "3600"}),
    ),
    case("connection reset twice", "right pixels", "at most 9", lambda s: s.reset(times=2)),
    case(
        "reset in the middle of several blocks once",
        "right pixels",
        "at most 9",
        lambda s: s.reset(after=3000),
    ),
    case("several blocks cut short once", "right pixels", "at most 9", lambda s: s.truncate(after=3000)),
    case("wrong Content-Range", "right pixels", "at most 7", lambda s: s.wrong_content_range(times=None)),
    case("slow drip", "right pixels", "at most 7", lambda s: s.drip(0.002, times=None)),
]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("prepare", PASSING)
@pytest.mark.parametrize("stage", ["open", "read"])
def test_temporary_trouble(row, sandbox, local, reads_right, prepare, stage):
    with terrascope_env(**SOON) as env:
        if stage == "open":
            prepare(sandbox)
        with env.open(sandbox.url()) as src:
            if stage == "read":
                sandbox.clear()
                prepare(sandbox)
            reads_right(src)
            row.costs(sandbox.requests("data"))
            assert_same_layout(src, local)
            for _ in range(3):
                reads_right(src)


@pytest.mark.fault("connection stalls in a body, once", sees="right pixels", requests="at most 8")
@pytest.mark.parametrize("stall", ["before", "within"])
def test_stalled(row, sandbox, reads_right, stall):
    with terrascope_env(**SOON), rasterio.open(sandbox.url()) as src:
        reads_right(src)
        sandbox.clear()
        if stall == "before":
            sandbox.hang()
        else:
            sandbox.drip(60)
        reads_right(src)
        row.costs(sandbox.requests("data"))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("after", [0, 1, 8, 192, 700, 2000, 3200, 5000, 14_000, 16_384, 20_000, 32_767])
def test_a_header_cut_short_anywhere(sandbox, local, reads_right, after):
    """The open fails or is right: it never returns a dataset without georeferencing, nodata or colours."""
    with terrascope_env(**SOON) as env:
        sandbox.truncate(after=after)
        try:
            src = env.open(sandbox.url())
        except RasterioIOError:
            assert after == 0  # without a byte, it cannot be told from a file that is not a raster
            src = env.open(sandbox.url())
        with src:
            assert_same_layout(src, local)
            reads_right(src)


ONE_HEADER_REQUEST = {
    "401": lambda s, skip: s.fail(401, skip=skip),
    "403": lambda s, skip: s.fail(403, skip=skip),
    "404": lambda s, skip: s.fail(404, skip=skip),
    "login page": lambda s, skip: s.fail(200, skip=skip, **HTML),
    "empty body": lambda s, skip: s.fail(200, body="", skip=skip),
    "empty range": lambda s, skip: s.fail(206, body="", skip=skip),
    "two resets": lambda s, skip: s.reset(times=2, skip=skip),
    "cut short": lambda s, skip: s.truncate(after=1000, skip=skip),
}


@pytest.mark.fault(
    "one of the requests for a long header fails, whichever and however",
    sees="right pixels, or an error",
    requests="at most 30",
)
@pytest.mark.parametrize("prepare", ONE_HEADER_REQUEST.values(), ids=ONE_HEADER_REQUEST)
def test_one_request_for_a_long_header(row, sandbox, big_header, prepare):
    """libtiff only warns, and leaves out what it could not read: the CRS, the transform, the colours."""
    url = sandbox.add_file(big_header, "/download/big-header.tif")
    window = Window(1000, 1000, 300, 300)
    right = 0
    with terrascope_env(**SOON) as env, rasterio.open(big_header) as local:
        for skip in range(12):
            env.forget()
            sandbox.clear()
            prepare(sandbox, skip)
            try:
                with env.open(url) as src:
                    assert_same_layout(src, local)
                    assert src.tags() == local.tags()
                    part = {"out_shape": (256, 256)}
                    np.testing.assert_array_equal(src.read(1, **part), local.read(1, **part))
                    np.testing.assert_array_equal(src.read(1, window=window), local.read(1, window=window))
                right += 1
            except (RasterioIOError, TerrascopeError):
                pass
            row.costs(sandbox.requests("data"))
            sandbox.heal()
    assert right >= 8


@pytest.mark.parametrize("prepare", ONE_HEADER_REQUEST.values(), ids=ONE_HEADER_REQUEST)
@pytest.mark.parametrize("way", ["read_bbox", "read_windows", "sample"])
def test_one_request_for_a_long_header_in_bulk(sandbox, big_header, prepare, way):
    url = sandbox.add_file(big_header, "/download/big-header.tif")
    with rasterio.open(big_header) as local:
        bounds, crs = local.window_bounds(Window(1000, 1000, 300, 300)), local.crs
        pixels = local.read(1, window=Window(1000, 1000, 300, 300))
        points = [local.xy(1000 + n, 1000 + n) for n in range(0, 300, 10)]

    def read():
        if way == "read_bbox":
            return read_bbox(url, bounds, crs=crs)[0][0], pixels
        if way == "read_windows":
            return next(read_windows([(url, Window(1000, 1000, 300, 300))]))[0], pixels
        return sample(url, points, crs=crs).data[:, 0], pixels.diagonal()[::10]

    with terrascope_env(**SOON) as env:
        for skip in range(12):
            env.forget()
            prepare(sandbox, skip)
            with contextlib.suppress(RasterioIOError, TerrascopeError):
                seen, expected = read()
                np.testing.assert_array_equal(seen, expected)
            sandbox.heal()


@contextlib.contextmanager
def opened_without_header(sandbox, way, prepare):
    """Open the tile, let GDAL forget its header, and start the trouble."""
    with terrascope_env(**SOON) as env, (rasterio.open if way == "plain" else env.open)(sandbox.url()) as src:
        env.forget(sandbox.url())
        prepare(sandbox)
        sandbox.clear()
        yield env, src


@pytest.mark.fault(
    "any of these when GDAL has dropped the header of a dataset that is open",
    sees='`RasterioIOError`: "Read failed"; after `env.forget(url)`, opened again, it reads on',
    requests="at most 20 (a redirect to itself: 77)",
)
@pytest.mark.parametrize("way", ["plain", "env.open"])
@pytest.mark.parametrize("prepare", LASTING_WHILE_OPEN)
def test_trouble_when_the_header_is_gone(row, sandbox, reads_right, prepare, way):
    """GDAL reads block offsets later. A block whose offset it cannot read would count as empty."""
    with opened_without_header(sandbox, way, prepare) as (env, src):
        with pytest.raises(RasterioIOError) as raised:
            reads_right(src)
        row.shows(raised.value)
        row.costs(asked(sandbox))
        src.close()
        sandbox.heal()
        env.forget(sandbox.url())
        with rasterio.open(sandbox.url()) as again:
            reads_right(again)


@pytest.mark.fault(
    "403 a few times, which passes, when GDAL has dropped the header",
    sees='right pixels, or `RasterioIOError`: "Read failed"',
    requests="at most 30",
)
@pytest.mark.parametrize("times", range(1, 7))
@pytest.mark.parametrize(
    ("way", "part"), [("plain", "window"), ("env.open", "window"), ("env.open", "overview")]
)
def test_temporary_trouble_when_the_header_is_gone(row, sandbox, local, lands, way, times, part):
    """Blocks whose offsets GDAL could not read would be zeros, next to others that are right."""
    what = {"window": lands[0].window}
    if part == "overview":
        what = {"window": Window(5000, 16000, 16000, 16000), "out_shape": (100, 100)}
    with opened_without_header(sandbox, way, lambda sandbox: sandbox.fail(403, times=times)) as (_, src):
        try:
            pixels = src.read(1, **what)
        except RasterioIOError as error:
            row.shows(error)
        else:
            np.testing.assert_array_equal(pixels, local.read(1, **what))
            row.shows_kind("RasterioIOError")
        row.costs(sandbox.requests("data"))


def fails_from_memory(sandbox):
    """Open the tile three times, and return the last error."""
    for _ in range(3):
        with pytest.raises(RasterioIOError) as raised:
            rasterio.open(sandbox.url())
    return raised.value


@pytest.mark.fault(
    "header cut short, plain `rasterio.open`",
    sees='`RasterioIOError`: "IO error", from memory until `env.open` or `env.refresh()`',
    requests="2",
)
@pytest.mark.parametrize("way", ["open", "refresh"])
def test_a_header_cut_short_and_a_plain_open(row, sandbox, local, reads_right, way):
    """GDAL treats the partial header as complete and caches it, which is why `env.open` checks it."""
    with terrascope_env(**SOON) as env:
        sandbox.truncate(after=3000)
        row.shows(fails_from_memory(sandbox))
        row.costs(sandbox.requests("data"))
        if way == "refresh":
            env.refresh()
        else:
            env.open(sandbox.url()).close()
        with rasterio.open(sandbox.url()) as src:
            assert src.profile == local.profile
            reads_right(src)


@pytest.mark.fault(
    "trouble between a plain `rasterio.open` and its first read, or a header cut short after its first half",
    sees="WRONG: no overviews, and no error: a decimated read takes pixels of the full resolution",
    requests="at most 5",
)
@pytest.mark.parametrize("trouble", ["cut short", "refused"])
def test_overviews_that_a_plain_open_does_not_find(row, sandbox, local, reads_right, trouble):
    """GDAL drops overviews if it cannot read their directories. `env.open` notices."""
    with terrascope_env(**SOON) as env:
        if trouble == "cut short":
            sandbox.truncate(after=30_000)
        with rasterio.open(sandbox.url()) as src:
            if trouble == "refused":
                env.forget(sandbox.url())
                sandbox.fail(403)
            assert src.overviews(1) == []
            row.costs(sandbox.requests("data"))
            assert src.profile == local.profile
            reads_right(src)
        with env.open(sandbox.url()) as src:
            assert src.overviews(1) == local.overviews(1)


@pytest.mark.fault(
    "an outage that is over, plain `rasterio.open`",
    sees='`RasterioIOError`: "404", from memory until `env.open` or `env.refresh()`',
    requests="0",
)
@pytest.mark.parametrize("way", ["open", "refresh"])
def test_a_failure_that_gdal_remembers(row, sandbox, reads_right, way):
    with terrascope_env(**SOON) as env:
        sandbox.fail(404)
        row.shows(fails_from_memory(sandbox))
        row.costs(len(sandbox.requests("data")) - 1)
        if way == "refresh":
            env.refresh()
        else:
            env.open(sandbox.url()).close()
        with rasterio.open(sandbox.url()) as src:
            reads_right(src)


@pytest.mark.fault(
    "one block cut short, or reset in its middle",
    sees='`RasterioIOError`: "Read failed", from memory until `env.forget(url)` or `env.refresh()`',
    requests="1",
)
@pytest.mark.parametrize("break_off", ["reset", "truncate"])
def test_one_block_cut_short(row, sandbox, lands, break_off):
    """GDAL caches the partial block as if it were complete."""
    window, pixels = lands[0]
    one = Window(window.col_off, window.row_off, 200, 200)
    with terrascope_env(**SOON) as env, env.open(sandbox.url()) as src:
        sandbox.clear()
        getattr(sandbox, break_off)(after=1000)
        for _ in range(3):
            with pytest.raises(RasterioIOError) as raised:
                src.read(1, window=one)
        row.shows(raised.value)
        row.costs(sandbox.requests("data"))
        env.forget(sandbox.url())
        np.testing.assert_array_equal(src.read(1, window=one), pixels[:200, :200])


@pytest.mark.fault(
    "five redirects in a row", sees="right pixels; no token to other hosts", requests="at most 36"
)
@pytest.mark.parametrize("end", ["data", "other"])
def test_redirect_chains(row, sandbox, reads_right, end):
    url = sandbox.redirect_url(to=end)
    for _ in range(4):
        url = sandbox.redirect_url(url, to="data")
    with terrascope_env(**SOON) as env, env.open(url) as src:
        reads_right(src)
    row.costs(sandbox.requests("data"))
    assert tokens_sent(sandbox.requests("data")) == {"valid"}
    assert tokens_sent(sandbox.requests("other")) == ({"none"} if end == "other" else set())


BLOCK = 256


@pytest.fixture
def versions():
    """The pixels of two versions of a file. They do not compress, so each block is fetched."""
    return [np.random.default_rng(seed).integers(1, 255, (1024, 1024), np.uint8) for seed in (1, 2)]


def write(path, pixels, compress):
    layout = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": compress}
    height, width = pixels.shape
    meta = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": height, "width": width}
    transform = rasterio.Affine(10, 0, 0, 0, -10, 0)
    with rasterio.open(path, "w", **meta, **layout, crs="EPSG:3857", transform=transform) as dataset:
        dataset.write(pixels, 1)


def outcomes(src, versions):
    """Read all blocks, and return the version of each, or its error."""
    found = []
    for row, column in itertools.product(range(0, 1024, BLOCK), repeat=2):
        window = Window(column, row, BLOCK, BLOCK)
        try:
            pixels = src.read(1, window=window)
        except RasterioIOError as error:
            found.append(error)
            continue
        old, new = (version[row : row + BLOCK, column : column + BLOCK] for version in versions)
        assert ((pixels == old) | (pixels == new)).all(), "pixels of neither version"
        whole = [number for number, block in enumerate((old, new)) if np.array_equal(pixels, block)]
        found.append(whole[0] if whole else "torn")
    return found


@pytest.fixture
def replaced(sandbox, tmp_path, versions):
    """Open a file, read a block, replace the file, and yield the dataset. At the end, read the new file."""

    @contextlib.contextmanager
    def replaced(compress, name):
        file = tmp_path / name
        write(file, versions[0], compress)
        url = sandbox.add_file(file, f"/download/{name}")
        env = terrascope_env(**SOON)
        with env, rasterio.open(url) as src:
            src.read(1, window=Window(0, 0, BLOCK, BLOCK))
            write(tmp_path / "next", versions[1], compress)
            (tmp_path / "next").replace(file)
            sandbox.clear()
            yield src
            env.refresh()
            with rasterio.open(url) as again:
                assert outcomes(again, versions) == [1] * 16

    return replaced


@pytest.mark.fault(
    "DEFLATE file replaced while open",
    sees='`RasterioIOError`: "Read failed", until `env.refresh()` and a new open',
    requests="at most 16 for 16 blocks",
)
def test_file_replaced(row, sandbox, versions, replaced):
    with replaced("deflate", "replaced.tif") as src:
        found = outcomes(src, versions)
        assert found[0] == 0
        errors = [outcome for outcome in found if isinstance(outcome, RasterioIOError)]
        assert len(errors) >= 14
        row.shows(errors[0])
        row.costs(sandbox.requests("data"))


@pytest.mark.fault(
    "uncompressed file replaced while open",
    sees="WRONG: pixels of both files, mixed, and no error",
    requests="at most 16 for 16 blocks",
)
def test_uncompressed_file_replaced(row, sandbox, versions, replaced):
    """GDAL compares neither ETag nor Last-Modified nor size, and no option makes it."""
    with replaced(None, "uncompressed.tif") as src:
        found = outcomes(src, versions)
        assert found[0] == 0
        assert 1 in found
        assert "torn" in found
        row.costs(sandbox.requests("data"))


@pytest.mark.fault(
    "file replaced between two opens with `env.open`, a minute apart",
    sees="right pixels, of the new file",
    requests="at most 25 for 16 blocks",
)
@pytest.mark.parametrize("compress", [None, "deflate"])
@pytest.mark.parametrize(
    ("first", "scope"), [("env.open", "origins"), ("env.open", "env"), ("plain", "origins")]
)
def test_file_replaced_between_two_opens(
    row, sandbox, tmp_path, monkeypatch, versions, compress, first, scope
):
    """GDAL goes on with the bytes, and the size, of the file that it has seen first."""
    monkeypatch.setattr(look, "REMEMBERED", 0)  # seconds
    file = tmp_path / "replaced.tif"
    write(file, versions[0], compress)
    url = sandbox.add_file(file, "/download/replaced.tif")
    with terrascope_env(scope=scope, **SOON) as env:
        with (env.open if first == "env.open" else rasterio.open)(url) as src:
            src.read(1, window=Window(0, 0, BLOCK, BLOCK))
        write(tmp_path / "next", versions[1], compress)
        (tmp_path / "next").replace(file)
        sandbox.clear()
        with env.open(url) as src:
            assert outcomes(src, versions) == [1] * 16
        row.costs(sandbox.requests("data"))


@pytest.mark.fault(
    "several parts (multipart/byteranges) in answer to one range, when a file is opened",
    sees='`RasterioIOError`: "several parts"',
    requests="at most 4",
)
@pytest.mark.parametrize("target", ["origin", "elsewhere"])
def test_several_parts(row, sandbox, tmp_path, versions, target):
    write(tmp_path / "parts.tif", versions[0], None)
    url = sandbox.add_file(tmp_path / "parts.tif", "/download/parts.tif")
    if target == "elsewhere":
        url = sandbox.redirect_url(url)
    with terrascope_env(**SOON) as env:
        sandbox.multipart(times=None, server="data" if target == "origin" else "other")
        with pytest.raises(RasterioIOError) as raised:
            env.open(url)
        row.shows(raised.value)
        row.costs(sandbox.requests("data"))
        sandbox.heal()
        with env.open(url) as src:
            assert outcomes(src, versions) == [0] * 16


def read_in_parts(sandbox, tmp_path, versions, read):
    """Open an uncompressed file, and read one block of it in several parts."""
    write(tmp_path / "parts.tif", versions[0], None)
    url = sandbox.add_file(tmp_path / "parts.tif", "/download/parts.tif")
    window = Window(300, 300, 100, 100)
    with terrascope_env(**SOON) as env, env.open(url) as src:
        sandbox.clear()
        sandbox.multipart()
        seen = read(src, url, window)
    return seen, versions[0][window.toslices()]


@pytest.mark.fault(
    "several parts in answer to one range, uncompressed file that is open",
    sees="WRONG: the lines between the parts are taken for pixels, and no error",
    requests="1",
)
def test_several_parts_while_open(row, sandbox, tmp_path, versions):
    """GDAL looks at neither Content-Type nor Content-Range."""
    seen, right = read_in_parts(
        sandbox, tmp_path, versions, lambda src, url, window: src.read(1, window=window)
    )
    assert (seen != right).any()
    row.costs(sandbox.requests("data"))


@pytest.mark.parametrize("way", ["read_windows", "sample"])
def test_several_parts_in_bulk(sandbox, tmp_path, versions, way):
    def read(src, url, window):
        if way == "read_windows":
            return next(read_windows([(url, window)]))[0]
        points = [src.xy(row, column) for row in range(300, 400) for column in range(300, 400)]
        return sample(url, points, crs=src.crs).data.reshape(100, 100)

    try:
        seen, right = read_in_parts(sandbox, tmp_path, versions, read)
    except RasterioIOError:
        return
    np.testing.assert_array_equal(seen, right)


@pytest.mark.fault(
    "404 for a WorldCover tile that exists",
    sees="nodata, as for the sea, in this `worldcover.read`; right pixels in the next",
    requests="at most 8",
)
def test_a_404_is_not_sea_for_long(row, sandbox, tiles):
    box = (6.5, 0.3, 6.6, 0.4)
    with terrascope_env(), rasterio.open(tiles[0]) as local:
        sandbox.fail(404, times=1)
        assert not worldcover.read(box, 2020)[0].any()
        sandbox.clear()
        pixels, _ = worldcover.read(box, 2020)
        np.testing.assert_array_equal(pixels[0], local.read(1, window=Window(6000, 31200, 1200, 1200)))
    assert pixels.any()
    row.costs(sandbox.requests("data"))
