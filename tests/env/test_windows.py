"""Windows read through the env have the same pixels as the local file."""

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from helpers import assert_same_pixels, some_windows, tokens_sent
from rio_terrascope import terrascope_env


@pytest.mark.parametrize("prefix", ["", "/vsicurl/"])
def test_windows(sandbox, local, prefix):
    with terrascope_env(), rasterio.open(prefix + sandbox.url()) as src:
        assert src.profile == local.profile
        assert_same_pixels(src, local, some_windows(20))
        assert_same_pixels(src, local, [Window(35500, 35500, 500, 500), Window(0, 0, 10, 10)])
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


def test_overviews(sandbox, local):
    with terrascope_env(), rasterio.open(sandbox.url()) as src:
        assert src.overviews(1) == local.overviews(1)
        sandbox.clear()
        shape = (36000 // 32, 36000 // 32)
        np.testing.assert_array_equal(src.read(1, out_shape=shape), local.read(1, out_shape=shape))
        sent = sum(request.sent for request in sandbox.requests("data"))
    assert sent < 0.1 * sandbox.file().stat().st_size


def test_a_vrt_over_two_tiles(sandbox, tiles, tmp_path):
    sources = "".join(
        f"""<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>0</NoDataValue><SimpleSource>
        <SourceFilename relativeToVRT="0">/vsicurl/{url}</SourceFilename><SourceBand>1</SourceBand>
        <SrcRect xOff="0" yOff="0" xSize="36000" ySize="36000"/>
        <DstRect xOff="0" yOff="0" xSize="36000" ySize="36000"/></SimpleSource></VRTRasterBand>"""
        for band, url in enumerate(sandbox.urls, start=1)
    )
    vrt = tmp_path / "years.vrt"
    place = "<SRS>EPSG:4326</SRS><GeoTransform>6, 8.333333333333333e-05, 0, 3, 0, -8.333333333333333e-05"
    vrt.write_text(
        f'<VRTDataset rasterXSize="36000" rasterYSize="36000">{place}</GeoTransform>{sources}</VRTDataset>'
    )
    with (
        terrascope_env(),
        rasterio.open(vrt) as src,
        rasterio.open(tiles[0]) as first,
        rasterio.open(tiles[1]) as second,
    ):
        for window in some_windows(5):
            expected = np.stack([first.read(1, window=window), second.read(1, window=window)])
            np.testing.assert_array_equal(src.read(window=window), expected)
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


@pytest.mark.parametrize(("late", "most"), [(None, 5), (True, 4)])
def test_one_window_takes_few_requests(sandbox, local, late, most):
    """HEAD, header and pixels; a WorldCover tile takes two more requests for its block offsets."""
    window = Window(8192, 20480, 512, 512)
    options = {} if late is None else {"GTIFF_USE_DEFER_STRILE_LOADING": late}
    with terrascope_env(**options), rasterio.open(sandbox.url()) as src:
        assert_same_pixels(src, local, [window])
    assert len(sandbox.requests("data")) <= most


def test_public_files_and_local_files_can_be_read_too(sandbox, tiles, local):
    public = sandbox.add_file(tiles[0], "/download/open/tile.tif")
    with terrascope_env() as env:
        for path in (public, str(tiles[0]), tiles[0]):
            with env.open(path) as src:
                assert_same_pixels(src, local, some_windows(2))
