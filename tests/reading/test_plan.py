"""From a header to the blocks of a window, and back to pixels, without a byte from anywhere else."""

import ctypes
import struct
import threading
import tracemalloc
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from helpers import in_child
from reading.test_plan_properties import URL, pieces, planned
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.sparse import sparse_file, whole_file
from rio_terrascope.reading import tiff as tiff_module
from rio_terrascope.reading.blocks import missing_arrays, window_ranges
from rio_terrascope.reading.decode import GDAL_OPTIONS, open_pieces, open_whole_file, pinned_options
from rio_terrascope.reading.tiff import FIRST, Layout, NotPlanned

SIZE, BLOCK = 200, 64
PIXELS = np.random.default_rng(5).integers(1, 255, (3, SIZE, SIZE), "uint8")


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a GeoTIFF and returns its bytes."""

    def write(array=PIXELS, *, overviews=(), mask=None, **more):
        path = tmp_path / "some.tif"
        profile = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "interleave": "band"} | more
        shape = {"count": array.shape[0], "height": array.shape[1], "width": array.shape[2]}
        transform = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                dtype=array.dtype,
                crs="EPSG:32631",
                transform=transform,
                **shape,
                **profile,
            ) as dataset:
                dataset.write(array)
                if mask is not None:
                    dataset.write_mask(mask)
            if overviews:
                with rasterio.open(path, "r+") as dataset:
                    dataset.build_overviews(list(overviews))
        return path.read_bytes()

    return write


@pytest.fixture(params=["libgdal", "Python"])
def either_way(request, monkeypatch):
    """Read through libgdal, and where its functions cannot be called."""
    if request.param == "Python":
        monkeypatch.setattr(libgdal, "why_not_scoped", lambda: "a test")


def read(content, ranges, window, bands=(1, 2, 3)):
    with pinned_options(), open_pieces(URL, len(content), pieces(content, ranges)) as dataset:
        return dataset.read(list(bands), window=window)


def blocks_by_gdal(content, bands, window):
    """Return the blocks of a window as GDAL tells them."""
    found = set()
    with rasterio.io.MemoryFile(content) as memory, memory.open() as dataset:
        for band in bands:
            for y in range(window.row_off // BLOCK, (window.row_off + window.height - 1) // BLOCK + 1):
                for x in range(window.col_off // BLOCK, (window.col_off + window.width - 1) // BLOCK + 1):
                    offset = dataset.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band)
                    if offset is not None:
                        size = dataset.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=band)
                        found.add((int(offset), int(size)))
    return sorted(found)


# Which blocks


@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_ranges_are_those_of_the_blocks_and_nothing_else(write, interleave):
    content = write(interleave=interleave, compress="deflate")
    window = Window(60, 10, 70, 50)
    ranges = window_ranges(planned(content), window, (50, 70), [1, 3])
    assert ranges == blocks_by_gdal(content, [1, 3], window)
    assert len(ranges) == (6 if interleave == "band" else 3)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("count", [1, 3])
def test_of_one_large_uncompressed_strip_some_rows_are_enough(write, monkeypatch, dtype, count):
    monkeypatch.setattr(tiff_module, "_PART", 20_000)
    array = np.random.default_rng(3).integers(0, 255, (count, 500, 300)).astype(dtype)
    content = write(array, tiled=False, blockxsize=300, blockysize=500, interleave="pixel")
    layout = planned(content)
    for window in (Window(0, 0, 1, 1), Window(9, 200, 30, 20), Window(0, 490, 300, 10)):
        ranges = window_ranges(layout, window, (window.height, window.width), [1])
        assert sum(length for _, length in ranges) <= 60_000
        rows, columns = window.toslices()
        assert np.array_equal(read(content, layout.header + ranges, window, [1])[0], array[0, rows, columns])


def test_masks_have_blocks_of_their_own(write):
    mask = np.random.default_rng(1).random((SIZE, SIZE)) > 0.5
    content = write(mask=mask, compress="deflate")
    layout = planned(content)
    without, window = window_ranges(layout, Window(0, 0, 5, 5), (5, 5), [1]), Window(0, 0, 5, 5)
    with_mask = window_ranges(layout, window, (5, 5), [1], masks=True)
    assert len(without) == 1
    assert len(with_mask) == 2
    with (
        pinned_options(),
        open_pieces(URL, len(content), pieces(content, layout.header + with_mask)) as dataset,
    ):
        assert np.array_equal(dataset.read_masks(1, window=window) != 0, mask[:5, :5])
    with (
        pinned_options(),
        open_pieces(URL, len(content), pieces(content, layout.header + without)) as dataset,
        pytest.raises(RasterioIOError),
    ):
        dataset.read_masks(1, window=window)


def test_sparse_blocks_need_no_bytes(write):
    array = PIXELS.copy()
    array[:, :BLOCK, :BLOCK] = 7
    content = write(array, sparse_ok=True, nodata=7)
    layout = planned(content)
    window = Window(0, 0, BLOCK, BLOCK)
    assert window_ranges(layout, window, (BLOCK, BLOCK), [1, 2, 3]) == []
    assert (read(content, layout.header, window) == 7).all()


def test_one_range_is_enough_for_the_raster_and_two_for_an_overview(tiles):
    for file in tiles:
        content = file.read_bytes()
        first = [(0, FIRST)]
        layout = Layout.of(len(content), pieces(content, first))
        for factor in (1, 2, 16):
            window = Window(5000, 5000, 256 * factor, 256 * factor)
            missing = missing_arrays(layout, window, (256, 256))
            assert len(missing) <= (factor > 1)
            whole = Layout.of(len(content), pieces(content, first + missing))
            ranges = window_ranges(whole, window, (256, 256), [1])
            given = pieces(content, whole.header + ranges)
            with (
                rasterio.open(file) as plain,
                pinned_options(),
                open_pieces(URL, len(content), given, left_out=whole.left_out) as dataset,
                rasterio.Env(GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD=1),
            ):
                out = {"window": window, "out_shape": (1, 256, 256)}
                np.testing.assert_array_equal(dataset.read(**out), plain.read(**out))


def test_arrays_that_overlap_something_else_are_fetched():
    """Bytes in their place would change what GDAL reads of the rest."""
    for offsets, is_enough in ((2000, True), (1100, False)):
        tags = instead((278, 4, 1, 1), (273, 4, 64, offsets), (279, 4, 64, 3000))
        content = tiff({1200: (tags, 0)}, first=1200)
        found = Layout.of(len(content), pieces(content, [(0, 1024), (1200, 200)]))
        if is_enough:
            assert found.left_out == [(2000, 256), (3000, 256)]
        else:
            assert found == [(1100, 2156)]


def test_a_block_in_the_place_of_arrays_is_an_error(write):
    content = write(overviews=[2], compress="deflate")
    layout = planned(content)
    image = layout.levels[0].image
    damaged = replace(layout, left_out=[(int(image.offsets[0]), 1)])
    with pytest.raises(RasterioIOError, match="header"):
        window_ranges(damaged, Window(0, 0, 9, 9), (9, 9), [1])


def test_directories_at_the_end_are_few_rounds(big_header):
    content = big_header.read_bytes()
    rounds, asked = 0, [(0, FIRST)]
    while isinstance(layout := Layout.of(len(content), pieces(content, asked)), list):
        rounds, asked = rounds + 1, asked + layout
    assert len(layout.levels) == 4
    assert rounds <= 4
    assert sum(length for _, length in asked) < sum(length for _, length in layout.header) + 60_000


def with_tags(content, changed, *, following=None):
    """Return a little-endian TIFF whose first directory is copied to the end, with other tags."""
    (at,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[at : at + 2])
    entries = [content[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    tags = {int.from_bytes(entry[:2], "little"): entry for entry in entries}
    (old_following,) = struct.unpack("<I", content[at + 2 + 12 * count : at + 6 + 12 * count])
    for tag, value in changed.items():
        tags.pop(tag, None)
        if value is not None:
            tags[tag] = struct.pack("<HHII", tag, *value)
    body = struct.pack("<H", len(tags)) + b"".join(tags[tag] for tag in sorted(tags))
    body += struct.pack("<I", old_following if following is None else following)
    content += bytes(len(content) % 2)
    return content[:4] + struct.pack("<I", len(content)) + content[8:] + body


def assert_same_as_plain(content, shape):
    layout, window = planned(content), Window(0, 0, SIZE, SIZE)
    ranges = window_ranges(layout, window, shape, [1])
    with (
        rasterio.io.MemoryFile(content) as memory,
        memory.open() as plain,
        pinned_options(),
        open_pieces(URL, len(content), pieces(content, layout.header + ranges)) as dataset,
        rasterio.Env(GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD=1),
    ):
        assert dataset.overviews(1) == plain.overviews(1)
        assert dataset.tags() == plain.tags()
        assert dataset.tags(ns="EXIF") == plain.tags(ns="EXIF")
        out = {"window": window, "out_shape": shape}
        np.testing.assert_array_equal(dataset.read(1, **out), plain.read(1, **out))
    return layout


def test_overviews_in_subdirectories(write):
    content = write(overviews=[2], compress="deflate")
    (at,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[at : at + 2])
    (overview,) = struct.unpack("<I", content[at + 2 + 12 * count : at + 6 + 12 * count])
    layout = assert_same_as_plain(with_tags(content, {330: (4, 1, overview)}, following=0), (90, 90))
    assert [level.image.width for level in layout.levels] == [SIZE, SIZE // 2]


def test_jpeg_without_its_subsampling_tag(write):
    content = write(compress="jpeg", photometric="ycbcr", interleave="pixel")
    layout = assert_same_as_plain(with_tags(content, {530: None}), (SIZE, SIZE))
    # libtiff looks for it in the first block when it opens the file
    [(offset, length)] = window_ranges(layout, Window(0, 0, 1, 1), (1, 1), [1])
    assert any(start <= offset and offset + length <= start + size for start, size in layout.header)


def test_exif(write):
    content = write(compress="deflate")
    text = b"somewhere on a farm\0"
    exif = struct.pack("<HHHIII", 1, 0x9286, 2, len(text), len(content) + 18, 0)
    layout = assert_same_as_plain(
        with_tags(content + exif + text, {34665: (4, 1, len(content))}), (SIZE, SIZE)
    )
    assert layout.levels[0].mask is None


# What is missing


@pytest.mark.usefixtures("either_way")
def test_a_hole_fails(write):
    content = write(compress="deflate")
    layout = planned(content)
    window = Window(0, 0, 2 * BLOCK, BLOCK)
    ranges = window_ranges(layout, window, (BLOCK, 2 * BLOCK), [1, 2, 3])
    assert np.array_equal(read(content, layout.header + ranges, window), PIXELS[:, :BLOCK, : 2 * BLOCK])
    for missing in ranges:
        present = [piece for piece in ranges if piece != missing]
        with pytest.raises(RasterioIOError):
            read(content, layout.header + present, window)
        offset, length = missing
        with pytest.raises(RasterioIOError):  # one byte is enough
            read(content, [*layout.header, *present, (offset, length - 1)], window)


@pytest.mark.usefixtures("either_way")
def test_the_message_names_the_file_without_its_query():
    with (
        pytest.raises(RasterioIOError, match=r"'tile\.tif' not recognized") as raised,
        pinned_options(),
        open_pieces("https://a.example/tile.tif?X-Amz-Signature=5ecret", 4000, [(0, bytes(4000))]),
    ):
        pass
    assert "vsi" not in str(raised.value)
    assert "5ecret" not in str(raised.value)


def test_a_block_beyond_the_end_of_the_file(write):
    content = write(compress="deflate")
    layout = planned(content)
    short = Layout.of(len(content) - 1, pieces(content, layout.header))
    assert isinstance(short, Layout)
    last = max(blocks_by_gdal(content, [1, 2, 3], Window(0, 0, SIZE, SIZE)))
    assert sum(last) == len(content)
    with pytest.raises(RasterioIOError, match="outside of the file"):
        window_ranges(short, Window(0, 0, SIZE, SIZE), (SIZE, SIZE), [1, 2, 3])


# Damaged headers


def tiff(directories, *, first=8, size=4096):
    """Return a TIFF file with directories at some offsets: (tag, type, count, value) each, and the next."""
    content = bytearray(size)
    content[:8] = struct.pack("<2sHI", b"II", 42, first)
    for offset, (tags, following) in directories.items():
        body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        body += struct.pack("<I", following)
        content[offset : offset + len(body)] = body
    return bytes(content)


GOOD = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (273, 4, 1, 3000), (277, 3, 1, 1), (279, 4, 1, 9)]


def instead(*tags):
    changed = {tag[0]: tag for tag in GOOD} | {tag[0]: tag for tag in tags}
    return sorted(changed.values())


@pytest.mark.parametrize(
    "content",
    [
        tiff({8: (GOOD, 8)}),
        tiff({8: (GOOD, 512), 512: (GOOD, 1024), 1024: (GOOD, 512)}),
        tiff({8: (GOOD, 0xFFFFFFFF)}),
        tiff({8: (GOOD, 0)}, first=0),
        tiff({8: (GOOD, 0)}, first=4094),
        tiff({8: (GOOD, 0)}, first=99_999),
        tiff({8: (instead((257, 4, 1, 1 << 20), (278, 4, 1, 1)), 0)}),
        tiff({8: (instead((256, 4, 1, 0)), 0)}),
        tiff({8: (instead((256, 4, 1, 0xFFFFFFFF)), 0)}),
        tiff({8: (instead((322, 3, 1, 0), (323, 3, 1, 16)), 0)}),
        tiff({8: (instead((273, 4, 0x40000000, 100)), 0)}),
        tiff({8: (instead((273, 16, 0xFFFFFFFF, 100)), 0)}),
        tiff({8: (instead((273, 4, 1 << 29, 100)), 0)}, size=4096),
        tiff({8: (instead((330, 4, 2, 600)), 0)}),
    ],
)
def test_a_damaged_header_is_one_clear_error(content):
    with pytest.raises(RasterioIOError, match="header is damaged"):
        Layout.of(len(content), [(0, content)])


def test_a_chain_without_an_end_and_values_of_terabytes_take_no_memory():
    # the file is said to be of 2 TB
    chain = tiff({8 + 100 * i: (GOOD, 108 + 100 * i) for i in range(2000)}, size=300_000)
    same = [(300 + i, 1, 200_000, 100_000) for i in range(4000)]
    huge = tiff({8: (instead((700, 1, 0xFFFFFFFF, 100)), 0)})
    tracemalloc.start()
    try:
        for content in (chain, tiff({8: (same, 0)}, size=300_000), huge):
            with pytest.raises(RasterioIOError, match="header is damaged"):
                Layout.of(2 << 40, [(0, content)])
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"II*", b"\x89PNG\r\n\x1a\n" + bytes(2000), b"<html>" * 900])
def test_what_is_not_a_tiff_is_not_planned(content):
    with pytest.raises(NotPlanned):
        Layout.of(len(content), [(0, content)])


def test_a_header_without_the_sizes_of_blocks_is_not_planned():
    content = tiff({8: ([tag for tag in GOOD if tag[0] != 279], 0)})
    with pytest.raises(NotPlanned):
        Layout.of(len(content), [(0, content)])


# Surroundings


@pytest.fixture
def requests():
    """The paths that are requested of a server, and the server's address."""
    paths = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            paths.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield paths, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


HOSTILE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "NO",
    "GDAL_NUM_THREADS": "4",
    "GTIFF_USE_DEFER_STRILE_LOADING": "YES",
    "GTIFF_IGNORE_READ_ERRORS": "YES",
    "GDAL_NO_COSTLY_OVERVIEW": "YES",
    "GTIFF_DIRECT_IO": "YES",
    "GTIFF_VIRTUAL_MEM_IO": "YES",
    "GTIFF_FORCE_RGBA": "YES",
    "GDAL_TIFF_INTERNAL_MASK_TO_8BIT": "NO",
    "GDAL_RASTERIO_RESAMPLING": "CUBIC",
    "GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD": "3",
    "GDAL_INGESTED_BYTES_AT_OPEN": "1000000",
}


@pytest.mark.parametrize("where", ["environment", "env", "process", "thread"])
def test_no_option_of_the_users_changes_pixels(write, monkeypatch, where):
    mask = np.random.default_rng(1).random((SIZE, SIZE)) > 0.5
    content = write(overviews=[2, 4], mask=mask)
    layout, window, shape = planned(content), Window(0, 0, SIZE, SIZE), (101, 67)
    ranges = window_ranges(layout, window, shape, [1, 2, 3], masks=True)
    out = {"window": window, "out_shape": (3, *shape)}

    def both(dataset):
        return dataset.read(**out), dataset.read_masks(**out)

    with (
        rasterio.io.MemoryFile(content) as memory,
        memory.open() as plain,
        rasterio.Env(GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD=1),
    ):
        expected = both(plain)
    lib = libgdal.load()
    setters = {"process": lib.CPLSetConfigOption, "thread": lib.CPLSetThreadLocalConfigOption}
    if where == "environment":
        for key, value in HOSTILE.items():
            monkeypatch.setenv(key, value)
    for key, value in HOSTILE.items() if where in setters else ():
        setters[where](key.encode(), value.encode())
    try:
        with rasterio.Env(**(HOSTILE if where == "env" else {})):
            with (
                pinned_options(),
                open_pieces(URL, len(content), pieces(content, layout.header + ranges)) as dataset,
            ):
                got = both(dataset)
            with (
                pytest.raises(RasterioIOError),
                pinned_options(),
                open_pieces(URL, len(content), pieces(content, layout.header)) as dataset,
            ):
                dataset.read(**out)
            if where in ("process", "thread"):
                assert libgdal.get_config_option("GDAL_NUM_THREADS") == "4"
    finally:
        for key in HOSTILE if where in setters else ():
            setters[where](key.encode(), None)
    for array, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(array, other)


def test_a_much_coarser_array_has_pixels(write, monkeypatch):
    monkeypatch.setenv("GDAL_NO_COSTLY_OVERVIEW", "YES")
    content = write()
    with pinned_options(), open_pieces(URL, len(content), [(0, content)]) as dataset:
        assert dataset.read(1, out_shape=(1, 1)) == PIXELS[0, SIZE // 2, SIZE // 2]


def test_options_hold_in_this_thread_only(write):
    content = write()
    seen = []

    def options():
        return {key: libgdal.get_config_option(key) for key in GDAL_OPTIONS}

    with rasterio.env.Env.from_defaults():  # rasterio's own options
        before = options()
        with pinned_options(), open_pieces(URL, len(content), [(0, content)]):
            assert options() == GDAL_OPTIONS
            other = threading.Thread(target=lambda: seen.append(options()))
            other.start()
            other.join()
        assert seen == [before]
        assert options() == before


@pytest.mark.usefixtures("either_way")
def test_nothing_is_requested(write, requests):
    paths, address = requests
    content = write(overviews=[2], compress="deflate")
    layout = planned(content)
    with (
        pinned_options(),
        open_pieces(f"{address}/some.tif", len(content), pieces(content, layout.header)) as dataset,
    ):
        assert dataset.name == f"{address}/some.tif"
        assert all("vsimem" in file or "vsiriopener" in file for file in dataset.files)
        assert dataset.tags()
        assert dataset.mask_flag_enums
        assert dataset.overviews(1) == [2]
        with pytest.raises(RasterioIOError):
            dataset.read(1)
    with pinned_options(), open_whole_file(f"{address}/some.tif", content) as dataset:
        assert np.array_equal(dataset.read(), PIXELS)
    assert paths == []


@pytest.mark.usefixtures("either_way")
def test_a_file_that_names_others_is_not_opened(requests):
    paths, address = requests
    source = f"<SimpleSource><SourceFilename>{address}/x.tif</SourceFilename></SimpleSource>"
    band = f'<VRTRasterBand dataType="Byte" band="1">{source}</VRTRasterBand>'
    content = f'<VRTDataset rasterXSize="9" rasterYSize="9">{band}</VRTDataset>'.encode()
    for name in ("x.vrt", "x.tif"):
        with (
            pytest.raises(RasterioIOError),
            pinned_options(),
            open_whole_file(f"{address}/{name}", content) as dataset,
        ):
            dataset.read()
    assert paths == []


@pytest.mark.usefixtures("either_way")
def test_other_formats_as_whole_files(tmp_path):
    path = tmp_path / "some.png"
    with rasterio.open(path, "w", driver="PNG", count=3, height=SIZE, width=SIZE, dtype="uint8") as dataset:
        dataset.write(PIXELS)
    with pinned_options(), open_whole_file("https://a.example/some.png?key=1", path.read_bytes()) as dataset:
        assert dataset.driver == "PNG"
        assert dataset.name == "https://a.example/some.png?key=1"
        assert np.array_equal(dataset.read(), PIXELS)


# Files in memory


def files_in_memory():
    lib = libgdal.load()
    lib.VSIReadDirRecursive.restype = ctypes.POINTER(ctypes.c_char_p)
    lib.VSIReadDirRecursive.argtypes = [ctypes.c_char_p]
    lib.CSLDestroy.argtypes = [ctypes.c_void_p]
    names = lib.VSIReadDirRecursive(b"/vsimem/")
    found = set()
    for name in iter(names or []):
        if name is None:
            break
        found.add(name.decode())
    lib.CSLDestroy(names)
    return found


def test_files_are_gone_afterwards(write):
    content = write()
    before = files_in_memory()
    for _ in range(3):
        with sparse_file(len(content), [(0, content), (0, b"")]), whole_file("x.tif", content) as path:
            assert path.removeprefix("/vsimem/") in files_in_memory()
    with pytest.raises(ZeroDivisionError), pinned_options(), open_pieces(URL, len(content), [(0, content)]):
        raise ZeroDivisionError
    assert {name for name in files_in_memory() - before if not name.endswith("/")} == set()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, np.frombuffer])
def test_kinds_of_buffers(write, kind):
    content = write()
    piece = kind(content) if kind is not np.frombuffer else memoryview(np.frombuffer(content, np.uint8))
    with pinned_options(), open_pieces(URL, len(content), [(0, piece)]) as dataset:
        assert np.array_equal(dataset.read(), PIXELS)


def test_in_threads_and_after_a_fork(write, in_threads):
    content = write(compress="deflate")
    layout = planned(content)

    def work():
        for y in range(0, SIZE, 40):
            window = Window(y, y, 20, 20)
            ranges = window_ranges(layout, window, (20, 20), [1, 2, 3])
            assert np.array_equal(
                read(content, layout.header + ranges, window), PIXELS[:, y : y + 20, y : y + 20]
            )

    in_threads(*[work] * 4)
    with pinned_options(), open_pieces(URL, len(content), [(0, content)]) as dataset:
        in_child(work, in_parent=work)
        assert np.array_equal(dataset.read(), PIXELS)
