"""Options of the user that would let the token go elsewhere, or send two, do not count inside the block."""

import concurrent.futures
import contextlib
import os
import pickle
import threading

import pytest
import rasterio
import trustme
from rasterio.errors import RasterioIOError

from helpers import assert_same_pixels, some_windows, tokens_sent
from rio_terrascope import (
    TerrascopeError,
    TerrascopeSession,
    TerrascopeWarning,
    TokenSource,
    read_windows,
    terrascope_env,
)
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.options import GUARDS, LAZY_OFFSETS, S3_REDIRECT, AppliedOptions
from tls_front import tls_front

IF_REDIRECT = "CPL_VSIL_CURL_AUTHORIZATION_HEADER_ALLOWED_IF_REDIRECT"
YES = {S3_REDIRECT: "YES", IF_REDIRECT: "YES"}


def redirected(sandbox, name):
    """Open, with plain rasterio, URLs for which GDAL would carry the token on with these options."""
    rasterio.open(f"{sandbox.redirect_url()}?{name}").close()
    with rasterio.open(f"{sandbox.signed_redirect_url()}?{name}") as src:
        src.read(1, window=next(some_windows(1)))


def assert_no_leak(sandbox):
    assert tokens_sent(sandbox.requests("other")) == {"none"}
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


def test_they_leak_without_the_guards(sandbox):
    """Shows that the tests below can fail."""
    with terrascope_env() as env:
        header = f"Authorization: Bearer {env.token.access_token}"
    with rasterio.Env(GDAL_HTTP_HEADERS=header, **YES):
        rasterio.open(sandbox.redirect_url()).close()
    assert "present" in tokens_sent(sandbox.requests("other"))


@pytest.mark.fault(
    "options that send the token on after a redirect are set",
    sees="no token to other hosts, and a `TerrascopeWarning`",
    requests="0 with the token",
)
@pytest.mark.parametrize("where", ["environment", "argument", "outer Env", "configuration"])
def test_the_user_has_set_them(sandbox, local, monkeypatch, where, in_threads):
    process = AppliedOptions()
    with rasterio.Env(**(YES if where == "outer Env" else {})):
        if where == "environment":
            for key in YES:
                monkeypatch.setenv(key, "YES")
        if where == "configuration":
            process.apply({(None, key): "YES" for key in YES})
        env = terrascope_env(**(YES if where == "argument" else {}))
        with pytest.warns(TerrascopeWarning, match=f"{S3_REDIRECT} and {IF_REDIRECT}") as warned:
            env.__enter__()
        assert len(warned) == 1
        assert warned[0].filename == __file__
        for turn in range(3):
            redirected(sandbox, turn)
        in_threads(lambda: redirected(sandbox, "thread"))
        env.__exit__()
        if where != "argument":
            assert {libgdal.get_config_option(key) for key in YES} == {"YES"}  # restored
        process.apply({})
    assert_no_leak(sandbox)
    if where != "environment":
        assert {libgdal.get_config_option(key) for key in YES} == {None}


@pytest.mark.parametrize("value", ["NO", "IF_SAME_HOST"])
def test_a_safe_value_needs_no_warning(sandbox, monkeypatch, value):
    monkeypatch.setenv(IF_REDIRECT, value)
    monkeypatch.setenv(S3_REDIRECT, "OFF")
    with terrascope_env():
        redirected(sandbox, "safe")
    assert_no_leak(sandbox)


def test_an_inner_env_of_the_main_thread(sandbox):
    with terrascope_env():
        with rasterio.Env(**YES):
            redirected(sandbox, "inside")
        redirected(sandbox, "after")
    assert_no_leak(sandbox)
    assert {libgdal.get_config_option(key) for key in YES} == {None}


@pytest.mark.fault(
    "inner `rasterio.Env` that names an option of the process",
    sees="the option holds again when the Env is left",
    requests="0 with the token",
)
@pytest.mark.parametrize("entered_in", ["main thread", "another thread"])
def test_after_an_inner_env(sandbox, in_threads, entered_in):
    """rasterio clears the options that an inner Env has named."""
    inside, done = threading.Event(), threading.Event()

    def stay():
        with terrascope_env():
            inside.set()
            done.wait(30)

    def check():
        with rasterio.Env(**dict.fromkeys(GUARDS, "NO"), **{LAZY_OFFSETS: "YES"}):
            assert libgdal.get_config_option(LAZY_OFFSETS) == "YES"  # the user's choice
        assert libgdal.get_config_option(LAZY_OFFSETS) == "NO"
        redirected(sandbox, "here")
        in_threads(lambda: redirected(sandbox, "thread"))

    if entered_in == "main thread":
        with terrascope_env():
            check()
    else:
        holder = threading.Thread(target=stay)
        holder.start()
        assert inside.wait(10)
        try:
            check()
        finally:
            done.set()
            holder.join()
    assert_no_leak(sandbox)
    assert libgdal.get_config_option(LAZY_OFFSETS) is None


@pytest.mark.parametrize("when", ["open", "refresh", "tick"])
def test_what_is_wrong_is_put_right(sandbox, in_threads, when):
    """Other code of the process may set an option with GDAL's own functions."""
    with terrascope_env() as env:
        for key in GUARDS:
            libgdal.load().CPLSetConfigOption(key.encode(), b"YES")
        if when == "open":
            env.open(sandbox.url()).close()
        elif when == "refresh":
            env.refresh()
        else:
            env.tokens._tell_again()  # as every second
        in_threads(lambda: redirected(sandbox, when))
    assert_no_leak(sandbox)


def test_the_environment_of_python_is_left_alone(sandbox):
    before = dict(os.environ)
    with terrascope_env():
        assert dict(os.environ) == before


def test_the_options_of_the_env_can_be_pickled(sandbox):
    """Libraries hand the options of the main thread's Env to their workers."""
    with terrascope_env():
        options = pickle.loads(pickle.dumps(rasterio.env.getenv()))
    with rasterio.Env(**options):
        assert rasterio.env.getenv().keys() >= options.keys()
    assert {libgdal.get_config_option(key) for key in GUARDS} == {None}


def test_entering_while_other_threads_read(sandbox, tiles, in_threads):
    """GDAL reads C's environment in all threads, so nothing may be set there: the process would crash."""
    done = threading.Event()

    def read():
        while not done.is_set():
            rasterio.open(tiles[0]).close()

    def enter():
        tokens = TokenSource()
        for _ in range(100):
            with terrascope_env(tokens=tokens):
                pass
        done.set()

    in_threads(enter, read, read, read)


def test_a_variable_that_was_set_inside_stays(sandbox, monkeypatch):
    with terrascope_env():
        monkeypatch.setenv(LAZY_OFFSETS, "MINE")
    assert libgdal.get_config_option(LAZY_OFFSETS) == "MINE"


@pytest.fixture
def unknown(sandbox, tmp_path, monkeypatch):
    """The tile behind TLS, with a certificate that nobody here has signed."""
    certificate = tmp_path / "certificate.pem"
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with tls_front(certificate, sandbox.origin) as origin:
        monkeypatch.setenv("TERRASCOPE_ORIGINS", origin)
        yield sandbox.url().replace(sandbox.origin, origin)


@pytest.mark.fault(
    "GDAL_HTTP_UNSAFESSL=YES, and a server whose certificate is not accepted",
    sees="a `TerrascopeWarning`, and a `RasterioIOError` from `env.open` and the package's functions",
    requests="0",
)
@pytest.mark.parametrize("where", ["environment", "argument", "outer Env", "inner Env"])
def test_unchecked_certificates(sandbox, unknown, monkeypatch, where):
    unsafe = {"GDAL_HTTP_UNSAFESSL": "YES"}
    if where == "environment":
        monkeypatch.setenv("GDAL_HTTP_UNSAFESSL", "YES")
    with rasterio.Env(**(unsafe if where == "outer Env" else {})):
        env = terrascope_env(**(unsafe if where == "argument" else {}))
        warns = contextlib.nullcontext()
        if where != "inner Env":
            warns = pytest.warns(TerrascopeWarning, match="GDAL_HTTP_UNSAFESSL.*SSL_CERT_FILE")
        with warns as warned:
            env.__enter__()
        assert where == "inner Env" or len(warned) == 1
        with rasterio.Env(**(unsafe if where == "inner Env" else {})):
            with pytest.raises(RasterioIOError, match="not signed by an authority known"):
                env.open(unknown)
            with pytest.raises(RasterioIOError, match="not signed by an authority known"):
                next(iter(read_windows([(unknown, next(some_windows(1)))])))
        env.__exit__()
    assert sandbox.requests("data") == []


HEADERS = {
    "plain": "Authorization: Bearer stale",
    "with a space": "Authorization : Bearer stale",
    "quoted": '"Authorization: Bearer stale",X-Mine: "1,2"',
    "quoted name": '"Authorization": Bearer stale',
    "CR LF": "X-Mine: 1,2\r\nAuthorization: Bearer stale",
    "LF": "X-Mine: 1,2\nauthorization: Bearer stale",
    "folded": "X-Mine: 1, authorization: Bearer stale",
    "empty": "Authorization;",
}


@pytest.mark.fault(
    "an Authorization line in the user's GDAL_HTTP_HEADERS, in any form",
    sees="right pixels",
    requests="at most 6",
)
@pytest.mark.parametrize("where", ["environment", "argument", "outer Env", "inner Env"])
@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_one_authorization_line(sandbox, local, monkeypatch, headers, where):
    own = {"GDAL_HTTP_HEADERS": headers}
    if where == "environment":
        monkeypatch.setenv("GDAL_HTTP_HEADERS", headers)
    with (
        rasterio.Env(**(own if where == "outer Env" else {})),
        terrascope_env(**(own if where == "argument" else {})),
        rasterio.Env(**(own if where == "inner Env" else {})),
        rasterio.open(sandbox.url()) as src,
    ):
        assert_same_pixels(src, local, some_windows(1))
    requests = sandbox.requests("data")
    assert tokens_sent(requests) == {"valid"}
    assert len(requests) <= 6
    if "X-Mine" in headers and where != "inner Env":
        assert {request.headers["x-mine"][0] for request in requests} == {"1"}


@pytest.mark.parametrize("headers", ["X-Mine: 1\r\nX-Yours: 2", '"X-Mine: 1,2"', HEADERS["CR LF"]])
def test_scope_env_adds_its_line_to_any_form(sandbox, local, headers):
    with terrascope_env(scope="env", GDAL_HTTP_HEADERS=headers), rasterio.open(sandbox.url()) as src:
        assert_same_pixels(src, local, some_windows(1))
    requests = sandbox.requests("data")
    assert tokens_sent(requests) == {"valid"}
    assert {request.headers["x-mine"][0] for request in requests} == {"1"}


def test_a_session_inside_sends_no_second_token(sandbox, local):
    with terrascope_env(), rasterio.Env(session=TerrascopeSession()), rasterio.open(sandbox.url()) as src:
        assert_same_pixels(src, local, some_windows(1))
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


class TestLeftInAnotherThread:
    """Options of an Env belong to the thread that entered it."""

    @pytest.mark.fault(
        "env left in another thread than the one that entered it",
        sees="nothing left behind; `TerrascopeError` if that thread cannot be told",
        requests="0 with the token",
    )
    @pytest.mark.parametrize("scope", ["origins", "env"])
    def test_entered_in_the_main_thread(self, sandbox, in_threads, scope):
        env = terrascope_env(scope=scope, GDAL_HTTP_MAX_RETRY=7)
        env.__enter__()
        in_threads(env.__exit__)
        for url in (sandbox.other_url(), sandbox.other_url("?again")):
            rasterio.open(url).close()
        assert tokens_sent(sandbox.requests("other")) == {"none"}
        assert not rasterio.env.hasenv()
        assert libgdal.get_config_option("GDAL_HTTP_MAX_RETRY") is None
        assert libgdal.get_config_option("GDAL_HTTP_HEADERS") is None
        assert {libgdal.get_config_option(key) for key in GUARDS} == {None}

    @pytest.mark.parametrize("scope", ["origins", "env"])
    def test_entered_in_a_thread_that_has_ended(self, sandbox, in_threads, scope):
        env = terrascope_env(scope=scope, GDAL_HTTP_MAX_RETRY=7)
        in_threads(env.__enter__)
        env.__exit__()
        rasterio.open(sandbox.other_url()).close()
        assert tokens_sent(sandbox.requests("other")) == {"none"}
        assert libgdal.get_config_option("GDAL_HTTP_MAX_RETRY") is None

    def test_entered_in_a_thread_that_goes_on(self, sandbox):
        env = terrascope_env(scope="env")
        entered, go_on = threading.Event(), threading.Event()

        def enter():
            env.__enter__()
            entered.set()
            go_on.wait(30)

        thread = threading.Thread(target=enter)
        thread.start()
        assert entered.wait(10)
        with pytest.raises(TerrascopeError, match="leave the env in the thread that entered it"):
            env.__exit__()
        go_on.set()
        thread.join()
        with pytest.raises(TerrascopeError, match="not logged in"):
            _ = env.token
        rasterio.open(sandbox.other_url()).close()
        assert tokens_sent(sandbox.requests("other")) == {"none"}

    @pytest.mark.parametrize("scope", ["origins", "env"])
    def test_each_thread_leaves_what_it_entered(self, sandbox, scope):
        """One env, entered in two threads and left in the wrong order."""
        env = terrascope_env(scope=scope, GDAL_HTTP_MAX_RETRY=7)
        both = threading.Barrier(2, timeout=10)

        def worker():
            with env:
                both.wait()
                both.wait()
                assert libgdal.get_config_option("GDAL_HTTP_MAX_RETRY") == "7"
            # rasterio would keep what the main thread had set when this thread entered its Env
            for key in ("GDAL_HTTP_MAX_RETRY", "GDAL_HTTP_HEADERS", *GUARDS):
                assert libgdal.get_config_option(key) is None

        env.__enter__()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            work = pool.submit(worker)
            both.wait()
            env.__exit__()
            assert libgdal.get_config_option("GDAL_HTTP_MAX_RETRY") is None
            both.wait()
            work.result(timeout=10)


class TestScopeEnv:
    """A plain open in the block uses the token that env.open has used last."""

    @pytest.mark.fault(
        'scope="env", the token renewed in the background',
        sees="plain opens send the token that `env.open` has used last",
        requests="0 with the old token",
    )
    def test_after_env_open(self, sandbox, local):
        with terrascope_env(scope="env") as env:
            old = env.token
            env.tokens.refresh()  # as the background thread does
            sandbox.clear()
            env.open(sandbox.url()).close()
            for number in range(2):
                rasterio.open(f"{sandbox.url()}?{number}").close()
        sent = {request.headers["authorization"] for request in sandbox.requests("data")}
        assert len(sent) == 1
        assert old.access_token not in sent.pop()

    def test_after_a_recovery(self, sandbox):
        with terrascope_env(scope="env") as env:
            sandbox.revoke_tokens()
            env.open(sandbox.url()).close()
            rasterio.open(sandbox.url() + "?plain").close()
        assert sandbox.requests("data")[-1].authorization == "valid"
