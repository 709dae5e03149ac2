"""The login is used for Terrascope's URLs alone, and renewed while a command runs."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_somebody_elses_url_is_read_without_the_token_and_said_so(tsread, sandbox):
    done = tsread("info", sandbox.other_url())
    assert "not one of Terrascope's origins" in done.stderr
    assert {request.authorization for request in sandbox.requests("other")} == {"none"}
    assert sandbox.requests("sso") == []


def test_an_open_url_and_a_local_file_need_no_login(stranger, sandbox):
    stranger("info", sandbox.other_url())
    assert stranger("info", sandbox.file()).stderr == ""


def test_a_token_that_lapses_in_the_middle_is_renewed(short_lived, fleeting, land):
    fleeting.latency(0.3)
    short_lived("read", fleeting.url(), "-o", "out.tif", "--window", 4000, 14000, 14000, 9000)
    with rasterio.open(fleeting.file()) as tile, rasterio.open(short_lived.cwd / "out.tif") as out:
        assert np.array_equal(out.read(1), tile.read(1, window=Window(4000, 14000, 14000, 9000)))
    assert any(request.grant == "refresh_token" for request in fleeting.requests("sso"))
    assert {request.authorization for request in fleeting.requests("data")} == {"valid"}
    assert Path(short_lived.cwd, "out.tif").exists()
