"""Any TIFF file, read from the planned bytes alone, is what plain rasterio reads from the whole file."""

import contextlib

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rasterio.errors import RasterioError
from rasterio.windows import Window

from reading.random_tiffs import layouts, windows, write
from rio_terrascope.reading import tiff
from rio_terrascope.reading.blocks import missing_arrays, window_ranges
from rio_terrascope.reading.decode import open_pieces, pinned_options
from rio_terrascope.reading.tiff import Layout, NotPlanned

NUMBERS = st.integers(0, 2**32)
URL = "https://services.terrascope.be/download/some.tif"
HERE = settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ],
)


def planned(content, *missing, **masks):
    """Return the layout of a file, found with only the bytes that are asked for.

    If a window and a shape are given, the layout is enough for them.
    """
    ranges = [(0, tiff.FIRST)]
    for _ in range(60):
        found = Layout.of(len(content), pieces(content, ranges))
        if isinstance(found, Layout):
            more = missing_arrays(found, *missing, **masks) if missing else []
            if not more:
                return found
        else:
            more = found
        ranges += more
    raise AssertionError("it goes on asking")


def pieces(content, ranges):
    return [(offset, content[offset : offset + length]) for offset, length in ranges]


def facts(dataset):
    """Return all that a dataset says of itself, except where it lies."""
    bands = dataset.indexes
    colormaps = {}
    for band in bands:
        with contextlib.suppress(ValueError):
            colormaps[band] = dataset.colormap(band)
    spaces = [None, "IMAGE_STRUCTURE", "EXIF", "RPC", "xml:XMP", "COLOR_PROFILE", "SUBDATASETS"]
    names = [
        *["profile", "bounds", "block_shapes", "scales", "offsets", "units", "nodatavals", "descriptions"],
        *["colorinterp", "gcps", "rpcs", "subdatasets", "dtypes", "mask_flag_enums"],
    ]
    return {
        "tags": [dataset.tags(band, ns=space) for band in [0, *bands] for space in spaces],
        "colormaps": colormaps,
        "overviews": [dataset.overviews(band) for band in bands],
    } | {name: getattr(dataset, name) for name in names}


def assert_same(planned_facts, plain_facts):
    # NaN is not equal to itself
    assert repr(planned_facts) == repr(plain_facts)


def opened(content, plan, ranges=()):
    given = pieces(content, [*plan.header, *ranges])
    return open_pieces(URL, len(content), given, left_out=plan.left_out)


@pytest.fixture(params=["come early", "left out"])
def arrays(request, monkeypatch):
    """Have the offsets and sizes of blocks come with the first bytes, or leave them out if they can be."""
    if request.param == "left out":
        leave_out(monkeypatch)


def leave_out(patch):
    patch.setattr(tiff, "FIRST", tiff._START)
    for name in ("_AHEAD", "_SMALL"):
        patch.setattr(tiff, name, 0)
    patch.setattr(tiff.joined, "__defaults__", (0,))  # no gap


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("random")


def written(folder, layout):
    """Write a file of a layout into the folder, in which nothing else lies, and return its bytes."""
    for leftover in folder.iterdir():
        leftover.unlink()
    file = folder / "some.tif"
    try:
        write(layout, file)
    except RasterioError:
        assume(False)
    return file, file.read_bytes()


@pytest.mark.usefixtures("arrays")
@HERE
@given(st.data())
def test_planned_bytes_are_enough(folder, data):
    file, content = written(folder, data.draw(layouts(), "layout"))
    plan = planned(content)
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), rasterio.open(file) as plain:
        bands = data.draw(st.lists(st.sampled_from(plain.indexes), min_size=1, unique=True), "bands")
        window, shape = data.draw(windows(plain.height, plain.width), "window")
        with pinned_options(), opened(content, plan) as dataset:
            assert dataset.name == URL
            assert_same(facts(dataset), facts(plain))
        out = {"window": window, "out_shape": (len(bands), *shape)}
        for masks in (False, True):
            plan = planned(content, window, shape, masks=masks)
            ranges = window_ranges(plan, window, shape, bands, masks=masks)
            with (
                pinned_options(),
                opened(content, plan, ranges) as dataset,
                rasterio.Env(GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD="1"),
            ):
                np.testing.assert_array_equal(dataset.read(bands, **out), plain.read(bands, **out))
                if masks:
                    np.testing.assert_array_equal(
                        dataset.read_masks(bands, **out), plain.read_masks(bands, **out)
                    )


@HERE
@given(st.data())
def test_what_is_left_out_cannot_be_read(folder, data):
    with pytest.MonkeyPatch.context() as patch:
        leave_out(patch)
        _, content = written(folder, data.draw(layouts(), "layout"))
        plan = planned(content)
        assume(plan.left_out)
        full = plan.levels[0].image
        window, shape = data.draw(windows(full.height, full.width), "window")
        masks = data.draw(st.booleans(), "masks")
        assume(missing_arrays(plan, window, shape, masks=masks))
        everything = [(0, len(content))]  # so that only the arrays are missing
        with pinned_options(), opened(content, plan, everything) as dataset, pytest.raises(RasterioError):
            dataset.read(window=window, out_shape=(dataset.count, *shape), masked=masks)


@pytest.mark.usefixtures("arrays")
@HERE
@given(st.data())
def test_damaged_headers_give_the_same_pixels_or_an_error(folder, data):
    layout = data.draw(layouts(), "layout")
    # drawn before the file is written: GDAL may write another one of the same layout
    damages = data.draw(st.lists(st.tuples(NUMBERS, st.integers(0, 255)), min_size=1, max_size=3), "damages")
    end = data.draw(st.none() | NUMBERS, "end")
    top, left, rows, columns = (data.draw(NUMBERS) for _ in range(4))
    file, content = written(folder, layout)
    plan = planned(content)
    header = [at for offset, length in plan.header + plan.left_out for at in range(offset, offset + length)]
    damaged = bytearray(content)
    for number, value in damages:
        damaged[header[number % len(header)]] = value
    content = bytes(damaged if end is None else damaged[: end % len(damaged)])
    file.write_bytes(content)
    window, shape = Window(0, 0, 1, 1), (1, 1)
    try:
        plan = planned(content)
        image = plan.levels[0].image
        height, width = min(image.height, 500), min(image.width, 500)
        window = Window(left % width, top % height, width - left % width, height - top % height)
        shape = (1 + rows % window.height, 1 + columns % window.width)
        plan = planned(content, window, shape)
        with (
            pinned_options(),
            opened(content, plan, window_ranges(plan, window, shape, [1])) as dataset,
        ):
            pixels = dataset.read([1], window=window, out_shape=(1, *shape))
    except (RasterioError, NotPlanned):
        return
    with (
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD="1"),
        rasterio.open(file) as plain,
    ):
        np.testing.assert_array_equal(pixels, plain.read([1], window=window, out_shape=(1, *shape)))
