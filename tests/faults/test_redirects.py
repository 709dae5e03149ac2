"""An origin that redirects: no request with a token at another host, and right pixels or a clear error."""

import itertools

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError

from helpers import some_windows, tokens_sent
from rio_terrascope import AccessDeniedError, read_bbox, read_windows, sample, terrascope_env, worldcover
from rio_terrascope.gdal import cache
from rio_terrascope.opening.look import MOST_REDIRECTS

STATUSES = (301, 302, 303, 307, 308)
CASES = list(itertools.product(STATUSES, ("other", "signed"), (False, True)))
WINDOWS = list(some_windows(2))

redirects = pytest.mark.parametrize(("status", "to", "head_refused"), CASES)


def refuse_head(sandbox):
    """As a signed URL does that is good for GET only."""
    sandbox.fail(403, times=None, server="other", method="HEAD")


def assert_kept(sandbox):
    """No token went elsewhere, and elsewhere was asked."""
    assert tokens_sent(sandbox.requests("other")) == {"none"}
    assert tokens_sent(sandbox.requests("data")) <= {"valid"}


def assert_same(pixels, local, window):
    np.testing.assert_array_equal(np.squeeze(pixels), local.read(1, window=window))


@pytest.mark.fault(
    "redirect to another host, plain or signed, HEAD refused or not: 301; 302; 303; 307; 308",
    sees="right pixels (`env.open` and the package's functions); no token to other hosts",
    requests="at most 2",
)
@redirects
def test_env_open(row, sandbox, local, status, to, head_refused):
    if head_refused:
        refuse_head(sandbox)
    url = sandbox.redirect_url(to=to, status=status)
    with terrascope_env() as env, env.open(url) as src:
        for window in WINDOWS:
            assert_same(src.read(1, window=window), local, window)
        assert src.name == url
        assert src.profile == local.profile
    assert_kept(sandbox)
    row.costs(sandbox.requests("data"))


@redirects
def test_read_windows(sandbox, local, status, to, head_refused):
    if head_refused:
        refuse_head(sandbox)
    url = sandbox.redirect_url(to=to, status=status)
    with terrascope_env():
        for pixels, window in zip(read_windows([(url, w) for w in WINDOWS]), WINDOWS, strict=True):
            assert_same(pixels, local, window)
    assert_kept(sandbox)


@pytest.mark.parametrize("to", ["other", "signed"])
@pytest.mark.parametrize("status", [301, 302])
def test_the_other_functions(sandbox, local, status, to):
    refuse_head(sandbox)
    url = sandbox.redirect_url(to=to, status=status)
    window = WINDOWS[0]
    points = [local.xy(window.row_off + n, window.col_off + n) for n in (0, 100)]
    with terrascope_env():
        pixels, _ = read_bbox(url, local.window_bounds(window))
        values = sample(url, points)
    assert_same(pixels, local, window)
    assert values.tolist() == [list(value) for value in local.sample(points)]
    assert_kept(sandbox)


@pytest.mark.parametrize("status", [301, 302])
def test_worldcover(sandbox, local, status):
    refuse_head(sandbox)
    sandbox.fail(status, times=None, match=".tif", headers={"Location": sandbox.other_url()})
    bounds = local.window_bounds(WINDOWS[0])
    with terrascope_env():
        array, _ = worldcover.read(bounds, 2020)
    size = WINDOWS[0].height
    assert_same(array[:, :size, :size], local, WINDOWS[0])
    assert_kept(sandbox)


def test_a_chain_of_two_hosts(sandbox, local):
    refuse_head(sandbox)
    there = sandbox.redirect_url(at="other", to="signed", status=302).removeprefix(sandbox.other_origin)
    for first in STATUSES:
        url = sandbox.redirect_url(there, to="other", status=first)
        with terrascope_env() as env, env.open(url) as src:
            assert_same(src.read(1, window=WINDOWS[0]), local, WINDOWS[0])
    assert_kept(sandbox)


def test_a_chain_that_comes_back(sandbox, local):
    """The origin gets the token again after a detour to another host."""
    there = sandbox.redirect_url(at="other", to="data").removeprefix(sandbox.other_origin)
    with terrascope_env() as env, env.open(sandbox.redirect_url(there, status=301)) as src:
        assert_same(src.read(1, window=WINDOWS[0]), local, WINDOWS[0])
    assert_kept(sandbox)


@pytest.mark.fault(
    "redirect of HEAD alone, or of GET alone, or with a status that browsers do not follow (300, 305, 306)",
    sees="right pixels (`env.open`); no token to other hosts",
    requests="at most 6",
)
@pytest.mark.parametrize("head_refused", [False, True])
@pytest.mark.parametrize("signature", ["", "?X-Amz-Signature=1"])
@pytest.mark.parametrize("method", ["HEAD", "GET", None])
@pytest.mark.parametrize("status", [300, *STATUSES, 305, 306])
def test_what_gdal_follows(row, sandbox, local, status, method, signature, head_refused):
    if head_refused:
        refuse_head(sandbox)
    location = {"Location": sandbox.other_url(signature)}
    sandbox.fail(status, times=None, server="data", method=method, headers=location)
    with terrascope_env() as env, env.open(sandbox.url()) as src:
        assert_same(src.read(1, window=WINDOWS[0]), local, WINDOWS[0])
    assert_kept(sandbox)
    row.costs(sandbox.requests("data"))


def test_equal_windows_take_one_look(sandbox, local):
    with terrascope_env() as env:
        for _ in range(3):
            with env.open(sandbox.url()) as src:
                assert_same(src.read(1, window=WINDOWS[0]), local, WINDOWS[0])
            requests = sandbox.take()
        assert requests == []


def test_many_threads_take_one_look(sandbox, in_threads):
    with terrascope_env() as env:
        in_threads(*[lambda: env.open(sandbox.redirect_url()).close()] * 16)
    assert len(sandbox.requests("data")) == 1


@pytest.mark.fault(
    "signed redirect target that has expired",
    sees="right pixels: `env.open` asks the origin again",
    requests="2",
)
def test_an_expired_signature(row, sandbox, local):
    url = sandbox.redirect_url(to="signed")
    with terrascope_env() as env:
        env.open(url).close()
        signature = sandbox.requests("other")[-1].query
        sandbox.fail(403, times=None, server="other", match=signature)
        cache.forget(sandbox.other_origin)  # and GDAL asks the target again
        with env.open(url) as src:
            assert_same(src.read(1, window=WINDOWS[0]), local, WINDOWS[0])
    assert_kept(sandbox)
    row.costs(sandbox.requests("data"))


@pytest.mark.fault(
    "redirect target that refuses",
    sees='`AccessDeniedError`: "it redirects to", "which answered 403"',
    requests="2",
)
@pytest.mark.parametrize("to", ["other", "signed"])
def test_a_target_that_refuses(row, sandbox, to):
    sandbox.fail(403, times=None, server="other")
    with terrascope_env() as env, pytest.raises(AccessDeniedError) as raised:
        env.open(sandbox.redirect_url(to=to))
    row.shows(raised.value)
    assert "X-Amz" not in str(raised.value)
    assert_kept(sandbox)
    row.costs(sandbox.requests("data"))


@pytest.mark.parametrize("status", [404, 500])
def test_a_target_in_trouble(sandbox, status):
    sandbox.fail(status, times=None, server="other")
    with (
        terrascope_env(GDAL_HTTP_RETRY_DELAY=0.01) as env,
        pytest.raises(RasterioIOError, match=str(status)),
    ):
        env.open(sandbox.redirect_url())
    assert_kept(sandbox)


@pytest.mark.parametrize("trouble", ["503", "reset", "401"])
def test_trouble_before_the_redirect(sandbox, local, trouble):
    """GDAL is not asked in its place, since it would carry the token on."""
    refuse_head(sandbox)
    with terrascope_env(GDAL_HTTP_RETRY_DELAY=0.01) as env:
        if trouble == "reset":
            sandbox.reset(times=2)
        else:
            sandbox.fail(int(trouble), times=1)
        with env.open(sandbox.redirect_url(to="signed", status=301)) as src:
            assert_same(src.read(1, window=WINDOWS[0]), local, WINDOWS[0])
    assert_kept(sandbox)


@pytest.mark.parametrize("location", ["http://[::1", "ftp://127.0.0.1/x.tif"])
def test_a_redirect_to_nowhere(sandbox, location):
    sandbox.fail(302, times=None, headers={"Location": location})
    with terrascope_env() as env, pytest.raises(RasterioIOError, match=r"not an http\(s\):// URL"):
        env.open(sandbox.url())


def test_a_redirect_with_other_letters(sandbox, tiles, local):
    sandbox.add_file(tiles[0], "/download/land_côte.tif")
    there = sandbox.other_url("/download/land_côte.tif").replace("%C3%B4", "ô")
    sandbox.fail(302, times=None, headers={"Location": there.encode().decode("latin-1")})
    with terrascope_env() as env, env.open(sandbox.url()) as src:
        assert src.profile == local.profile
    assert_kept(sandbox)


def test_a_path_of_gdal(sandbox, local):
    for url in (f"/vsicurl/{sandbox.url()}", f"/vsicurl/{sandbox.redirect_url(status=301)}"):
        with terrascope_env() as env, env.open(url) as src:
            assert_same(src.read(1, window=WINDOWS[0]), local, WINDOWS[0])
            assert src.name == url
    assert_kept(sandbox)


def test_a_redirect_with_a_password(sandbox, local):
    host = sandbox.other_url().replace("http://", "http://user:pass@")
    sandbox.fail(302, times=None, headers={"Location": host})
    with terrascope_env() as env, env.open(sandbox.url()) as src:
        assert_same(src.read(1, window=WINDOWS[0]), local, WINDOWS[0])
        assert "pass@" not in repr(src)
    assert all(
        "Bearer" not in request.headers.get("authorization", "") for request in sandbox.requests("other")
    )


def test_a_dataset_elsewhere_is_forgotten_on_leaving(sandbox):
    url = sandbox.redirect_url()
    with terrascope_env() as env:
        env.open(url).close()
    sandbox.clear()
    with rasterio.open(sandbox.other_url()):
        pass
    assert sandbox.requests("other")


def test_as_many_redirects_as_gdal_follows(sandbox):
    url = sandbox.url()
    for _ in range(MOST_REDIRECTS):
        url = sandbox.redirect_url(url, to="data")
    with terrascope_env() as env:
        env.open(url).close()
        with pytest.raises(RasterioIOError, match="redirects in a row"):
            env.open(sandbox.redirect_url(url, to="data"))
