"""Every fault of the login service: what the user sees, the number of requests, and that reading goes on."""

import contextlib
import dataclasses
import multiprocessing
import socket
import ssl
import subprocess
import threading
import time
from email.utils import formatdate
from typing import get_args
from urllib.parse import urlsplit

import pytest
import rasterio

from helpers import Clock, enter_and_read, grants, most_at_once, read_until, refreshed, tokens_sent
from rio_terrascope import (
    InvalidCredentialsError,
    Settings,
    TerrascopeError,
    TokenEndpointError,
    TokenSource,
    terrascope_env,
)
from rio_terrascope.auth import oidc
from rio_terrascope.auth.store import LoginStore, SavedLogin
from rio_terrascope.gdal import cache
from rio_terrascope.sandbox import Sandbox
from rio_terrascope.sandbox.controls import Encoding


class Elsewhere:
    """A server that is not a token endpoint: it counts connections and calls `meet` with each."""

    def __init__(self, meet):
        self.connections = 0
        self._meet = meet
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with connection, contextlib.suppress(OSError):
                    self._meet(connection)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="session")
def self_signed(tmp_path_factory):
    """The TLS context of a server with a self-signed certificate."""
    folder = tmp_path_factory.mktemp("certificate")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", folder / "key", "-out", folder / "certificate"]
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*request, *files, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    return context


class World:
    """Causes faults. `token_url` leads to the fault."""

    def __init__(self, sandbox, self_signed, monkeypatch, waits, cleanup):
        self.sandbox, self.token_url = sandbox, sandbox.token_url
        self._self_signed, self._monkeypatch = self_signed, monkeypatch
        self._waits, self._cleanup = waits, cleanup
        self._elsewhere = None
        self.timeout = 30.0

    def requests(self):
        """Return the number of attempts: one more than the pauses that `patient` noted."""
        tried = len(self._waits) + 1
        if self._elsewhere is not None:
            assert self._elsewhere.connections == tried
        elif self.token_url == self.sandbox.token_url:
            assert len(self.sandbox.requests("sso")) == tried
        return tried

    def _at(self, meet):
        self._elsewhere = Elsewhere(meet)
        self._cleanup(self._elsewhere.close)
        self.token_url = f"https://127.0.0.1:{self._elsewhere.port}/token"

    def refused(self):
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))  # but not listening
        self._cleanup(bound.close)
        self.token_url = f"http://127.0.0.1:{bound.getsockname()[1]}/token"

    def no_such_host(self):
        self.token_url = "https://sso.terrascope.invalid/token"

    def impatient(self):
        """Leave time for two attempts, and for the pause between them, which `patient` only notes."""
        self.timeout = 2.2
        self._monkeypatch.setenv("TERRASCOPE_TIMEOUT", str(self.timeout))

    def hang(self):
        self.impatient()
        self.sandbox.hang(times=None, server="sso")

    def drip(self):
        self.impatient()
        self.sandbox.drip(5.0, times=None, server="sso")

    def drip_header(self):
        self.impatient()
        start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Slow: "
        self.sandbox.raw(start, times=None, repeat=b"z", server="sso")

    def continue_for_ever(self):
        self.impatient()
        self.sandbox.raw(b"", times=None, repeat=b"HTTP/1.1 100 Continue\r\n\r\n", server="sso")

    def malformed_redirect(self):
        self.sandbox.fail(302, times=None, server="sso", headers={"Location": "http://[::1"})

    def negative_chunk(self):
        start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n"
        self.sandbox.raw(start, times=None, server="sso")

    def certificate(self):
        self._at(lambda connection: self._self_signed.wrap_socket(connection, server_side=True))

    def tls_cut_off(self):
        self._at(lambda connection: connection.recv(10_000))

    def no_tls(self):
        self._at(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))

    def answers(self, body):
        self.sandbox.fail(200, times=None, server="sso", body=body, content_type="application/json")

    def lacks(self, field):
        self.sandbox.token_answer({field: None}, times=10)


@pytest.fixture
def world(sandbox, self_signed, monkeypatch, waits, request):
    return World(sandbox, self_signed, monkeypatch, waits, request.addfinalizer)


def case(what, sees, requests, prepare):
    """One fault, one row of README's table."""
    sees = f"`TokenEndpointError`: {sees}"
    return pytest.param(prepare, id=what, marks=pytest.mark.fault(what, sees=sees, requests=requests))


TRIED = "4"  # attempts, with growing pauses between them
TROUBLE = [
    case("connection refused", '"Connection refused"', TRIED, World.refused),
    case(
        "no such host (DNS)", '"sso.terrascope.invalid", "the connection failed"', TRIED, World.no_such_host
    ),
    case("connection reset", '"reset by peer"', TRIED, lambda w: w.sandbox.reset(times=None, server="sso")),
    case(
        "answer cut short",
        '"the connection failed"',
        TRIED,
        lambda w: w.sandbox.truncate(times=None, server="sso", after=50),
    ),
    case("TLS cut off", '"the TLS connection failed"', TRIED, World.tls_cut_off),
    *[
        case(str(status), '"it answered", "4 times"', TRIED, lambda w, s=status: fail(w, s))
        for status in (429, 500, 502, 503)
    ],
    case("hang", '"no answer in time"', "at most 2", World.hang),
    case("slow drip of the body", '"no answer in time"', "at most 2", World.drip),
    case("slow drip of the header", '"no answer in time"', "at most 2", World.drip_header),
    case("`100 Continue` for ever", '"no answer in time"', "at most 2", World.continue_for_ever),
    case("redirect to a malformed URL", '"a redirect, which is not followed"', "1", World.malformed_redirect),
    case("negative chunk size", '"the answer cannot be understood"', "1", World.negative_chunk),
    case(
        "unknown certificate",
        '"its certificate was not signed by"',
        "1",
        World.certificate,
    ),
    case("no TLS at an `https://` URL", '"it does not speak TLS as it should"', "1", World.no_tls),
    case("HTML with 200", '"it is not a JSON object"', "1", lambda w: w.answers("<html>Welcome</html>")),
    case("truncated JSON", '"it is not a JSON object"', "1", lambda w: w.answers('{"access_token": "ey')),
    case("no `access_token`", '"it has no access_token"', "1", lambda w: w.lacks("access_token")),
    case("no `expires_in`", '"its expires_in is missing"', "1", lambda w: w.lacks("expires_in")),
]


def fail(world, status):
    world.sandbox.fail(status, times=None, server="sso")


@pytest.mark.parametrize("prepare", TROUBLE)
def test_lasting_trouble_at_the_login(row, world, sandbox, patient, waits, reads_right, prepare):
    prepare(world)
    with pytest.raises(TerrascopeError) as raised, terrascope_env(tokens=patient(world.token_url)):
        pass
    row.shows(raised.value)
    row.costs(world.requests())
    assert urlsplit(world.token_url).hostname in str(raised.value)
    assert "Next: " in str(raised.value)
    for wait, longest in zip(waits, (1, 2, 4), strict=False):
        assert longest / 2 <= wait <= longest
    assert sandbox.requests("data") == []
    sandbox.heal()
    with terrascope_env() as env, env.open(sandbox.url()) as src:
        reads_right(src)


@pytest.mark.fault(
    "any of these while the token is valid",
    sees='right pixels; in the log: "the token was not refreshed", "valid for 50 s more"',
    requests="1, and again after growing pauses",
)
@pytest.mark.parametrize("prepare", [pytest.param(*p.values, id=p.id) for p in TROUBLE])
def test_trouble_while_reading(row, world, sandbox, patient, waits, clock, reads_right, caplog, prepare):
    tokens = patient(clock=clock)
    with terrascope_env(tokens=tokens), rasterio.open(sandbox.url()) as src:
        reads_right(src)
        tokens.stop()  # this thread takes the part of the background thread
        prepare(world)
        tokens._endpoint.settings = dataclasses.replace(
            tokens.settings, token_url=world.token_url, timeout=world.timeout
        )
        sandbox.clear()
        clock.advance(250)
        for _ in range(20):
            tokens.get()
        row.costs(world.requests())
        reads_right(src)
        row.shows(caplog.text)
        sandbox.heal()
        tokens._endpoint.settings = tokens.settings
        clock.advance(40)
        first = tokens.current
        assert tokens.get() is not first
        reads_right(src)
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


@pytest.mark.fault(
    "503 when the token has expired",
    sees='`TokenEndpointError`: "it answered 503, 4 times"',
    requests="4, and again after growing pauses",
)
def test_trouble_that_outlasts_the_token(row, sandbox, patient, waits, clock, reads_right):
    tokens = patient(clock=clock)
    with terrascope_env(tokens=tokens) as env:
        tokens.stop()
        sandbox.fail(503, times=None, server="sso")
        sandbox.clear()
        clock.advance(301)
        for _ in range(20):
            with pytest.raises(TokenEndpointError) as raised:
                env.open(sandbox.url())
        row.shows(raised.value)
        row.costs(sandbox.requests("sso"))
        assert sandbox.requests("data") == []
        sandbox.heal()
        clock.advance(30)
        with env.open(sandbox.url()) as src:
            reads_right(src)


ONCE = {
    "500": lambda sandbox: sandbox.fail(500, server="sso"),
    "502": lambda sandbox: sandbox.fail(502, server="sso"),
    "503": lambda sandbox: sandbox.fail(503, server="sso"),
    "reset": lambda sandbox: sandbox.reset(server="sso"),
    "reset in the answer": lambda sandbox: sandbox.reset(server="sso", after=50),
    "answer cut short": lambda sandbox: sandbox.truncate(server="sso", after=50),
}


@pytest.mark.fault("one 5xx, reset or cut answer", sees="right pixels", requests="2")
@pytest.mark.parametrize("prepare", ONCE.values(), ids=ONCE)
def test_short_trouble_at_the_login(row, sandbox, patient, reads_right, prepare):
    prepare(sandbox)
    with terrascope_env(tokens=patient()), rasterio.open(sandbox.url()) as src:
        reads_right(src)
    row.costs(sandbox.requests("sso"))


@pytest.mark.fault("429, Retry-After 7 s", sees="right pixels, after 7 s", requests="2")
def test_retry_after(row, sandbox, patient, waits, reads_right):
    sandbox.fail(429, server="sso", headers={"Retry-After": "7"})
    with terrascope_env(tokens=patient()), rasterio.open(sandbox.url()) as src:
        reads_right(src)
    assert waits == [7.0]
    row.costs(sandbox.requests("sso"))


def refused_five_times(tokens, clock, pause):
    """Try to enter a block five times, with a pause after each, and return the last error."""
    for _ in range(5):
        with (
            pytest.raises((TokenEndpointError, InvalidCredentialsError)) as raised,
            terrascope_env(tokens=tokens),
        ):
            pass
        clock.advance(pause)
    return raised.value


@pytest.mark.fault(
    "429, Retry-After 1 h",
    sees='`TokenEndpointError`: "asks to come back in 3600 s"',
    requests="1, and again after 10 min",
)
def test_a_long_retry_after(row, sandbox, patient, waits, clock):
    sandbox.fail(429, times=None, server="sso", headers={"Retry-After": "3600"})
    tokens = patient(clock=clock)
    row.shows(refused_five_times(tokens, clock, 100))
    row.costs(sandbox.requests("sso"))
    assert waits == []
    clock.advance(101)
    with pytest.raises(TokenEndpointError):
        tokens.get()
    assert len(sandbox.requests("sso")) == 2


@pytest.mark.fault("fields that nobody knows", sees="right pixels", requests="1")
def test_extra_fields(row, sandbox, patient, reads_right):
    sandbox.token_answer({"mood": "sunny", "nested": {"a": [1]}, "not-before-policy": "x", "scope": 7})
    with terrascope_env(tokens=patient()), rasterio.open(sandbox.url()) as src:
        reads_right(src)
    row.costs(sandbox.requests("sso"))


@pytest.mark.fault("no `refresh_token`", sees="right pixels", requests="1 for each renewal, by password")
def test_no_refresh_token(row, sandbox, patient, clock, reads_right):
    sandbox.token_answer({"refresh_token": None}, times=2)
    tokens = patient(clock=clock)
    with terrascope_env(tokens=tokens), rasterio.open(sandbox.url()) as src:
        clock.advance(250)
        tokens.refresh_if_due()
        sandbox.wait_for(lambda requests: grants(requests, "password") == 2)
        reads_right(src)
    row.costs(sandbox.requests("sso")[1:])


@pytest.mark.fault("refresh token expired", sees="right pixels", requests="2 for each renewal")
def test_expired_refresh_token(row, tiles, monkeypatch, reads_right):
    with Sandbox(tiles=tiles, refresh_lifetime=0.01) as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        with terrascope_env() as env, rasterio.open(server.url()) as src:
            time.sleep(0.02)  # it expires
            env.refresh()
            reads_right(src)
        kinds = [request.grant for request in server.requests("sso")]
        assert kinds == ["password", "refresh_token", "password"]
        row.costs(kinds[1:])


@pytest.mark.fault(
    "refresh token used by another process",
    sees='`InvalidCredentialsError`: "the login has ended (Stale token)"; with a password right pixels',
    requests="1, or 2 with a password",
)
def test_a_refresh_token_used_by_another_process(row, sandbox, reads_right):
    token = TokenSource().get()
    alone = TokenSource(settings=Settings.from_environ(), token=token)
    with_password = TokenSource(sandbox.username, sandbox.password, token=token)
    TokenSource(settings=Settings.from_environ(), token=token).refresh()  # the other process
    sandbox.clear()
    for _ in range(3):
        with pytest.raises(InvalidCredentialsError) as raised:
            alone.refresh()
    assert isinstance(raised.value, oidc.RefreshRefusedError)
    row.shows(InvalidCredentialsError(str(raised.value)))
    row.costs(sandbox.requests("sso"))
    with terrascope_env(tokens=with_password) as env, rasterio.open(sandbox.url()) as src:
        env.refresh()
        reads_right(src)
    assert [request.grant for request in sandbox.requests("sso")[1:]] == ["refresh_token", "password"]


@pytest.mark.fault("two processes, one saved login", sees="right pixels", requests="1 for each renewal")
def test_two_processes_share_a_saved_login(row, fleeting, monkeypatch):
    store = LoginStore(Settings.from_environ())
    token = TokenSource().get()
    with store.locked():
        store.save(SavedLogin(fleeting.username, token))
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"TERRASCOPE_{name}")
    fleeting.clear()
    context = multiprocessing.get_context("spawn")
    readers = []
    for number in range(2):
        here, there = context.Pipe()
        arguments = (f"{fleeting.url()}?{number}", fleeting.file(), there)
        process = context.Process(target=enter_and_read, args=arguments, daemon=True)
        process.start()
        there.close()
        readers.append((process, here))
    for _, pipe in readers:
        assert pipe.recv() == "opened"
    fleeting.clear()
    fleeting.wait_for(refreshed(3), timeout=20)
    for process, pipe in readers:
        pipe.send("stop")
        assert pipe.recv() > 1
        process.join(30)
        assert process.exitcode == 0
    requests = fleeting.requests("sso")
    assert {request.status for request in requests} == {200}  # neither used a refresh token of the other
    assert grants(requests, "password") == 0
    assert tokens_sent(fleeting.requests("data")) == {"valid"}
    row.costs(most_at_once(requests, 0.7))  # tokens of 2 s are renewed after 1 s


@pytest.mark.fault("session ended by an administrator", sees="right pixels (`env.open`)", requests="2")
def test_session_revoked(row, sandbox, reads_right):
    with terrascope_env() as env:
        sandbox.end_sessions()
        sandbox.clear()
        with env.open(sandbox.url()) as src:
            reads_right(src)
            assert [request.grant for request in sandbox.requests("sso")] == ["refresh_token", "password"]
            row.costs(sandbox.requests("sso"))


REFUSED = [
    ("wrong password", "the username or password is wrong", lambda s: s.set_password(s.username, "new")),
    ("account disabled or locked", "the account is disabled", lambda s: s.disable(s.username)),
    ("account not set up", "log in once at https://terrascope.be", lambda s: s.require_action(s.username)),
]


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(
            prepare,
            id=what,
            marks=pytest.mark.fault(what, sees=f'`InvalidCredentialsError`: "{said}"', requests="1"),
        )
        for what, said, prepare in REFUSED
    ],
)
def test_refused_at_the_login(row, sandbox, patient, waits, clock, prepare):
    prepare(sandbox)
    error = refused_five_times(patient(clock=clock), clock, 3600)
    row.shows(error)
    row.costs(sandbox.requests("sso"))
    assert waits == []
    assert "127.0.0.1" in str(error)


@pytest.mark.fault(
    "wrong password, in ten blocks one after the other",
    sees='`InvalidCredentialsError`: "the username or password is wrong", "will not send them again"',
    requests="1",
)
def test_a_refused_password_is_not_sent_again(row, sandbox):
    for _ in range(10):
        with pytest.raises(InvalidCredentialsError) as raised:
            terrascope_env(sandbox.username, "wr0ng-s3cret").__enter__()
        row.shows(raised.value)
    row.costs(sandbox.requests("sso"))
    with terrascope_env():  # another password is sent
        pass
    with pytest.raises(InvalidCredentialsError), terrascope_env("colleague", "wr0ng-s3cret"):
        pass  # and so is the same one of another user
    assert grants(sandbox.requests(), "password") == 3


def test_an_account_that_was_not_set_up_is_asked_for_again(sandbox):
    sandbox.require_action(sandbox.username)
    with pytest.raises(InvalidCredentialsError, match="Next: do that, and log in again"), terrascope_env():
        pass
    sandbox.heal()  # its owner has done it
    with terrascope_env():
        pass


@pytest.mark.fault(
    "the form repeated in the answer, in any encoding",
    sees='`InvalidCredentialsError`: "the username or password is wrong"',
    requests="1",
)
@pytest.mark.parametrize("encoding", get_args(Encoding))
def test_an_answer_that_repeats_the_form(row, sandbox, encoding):
    sandbox.echo(encoding)
    with pytest.raises(InvalidCredentialsError) as raised, terrascope_env():
        pass
    row.shows(raised.value)
    row.costs(sandbox.requests("sso"))
    assert "you sent" not in str(raised.value)


def password_changed(sandbox):
    sandbox.set_password(sandbox.username, "new")
    sandbox.fail(400, server="sso")  # the refresh token is refused as well


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(
            prepare,
            id=what,
            marks=pytest.mark.fault(
                what,
                sees=f'right pixels while the token lives, then `InvalidCredentialsError`: "{said}"',
                requests="2 (the password is sent once)",
            ),
        )
        for what, said, prepare in (
            ("password changed meanwhile", "the username or password is wrong", password_changed),
            ("account locked meanwhile", "the account is disabled", lambda s: s.disable(s.username)),
        )
    ],
)
def test_refused_while_reading(row, sandbox, patient, clock, reads_right, caplog, prepare):
    tokens = patient(clock=clock)
    with terrascope_env(tokens=tokens) as env, rasterio.open(sandbox.url()) as src:
        tokens.stop()  # this thread takes the part of the background thread
        prepare(sandbox)
        sandbox.clear()
        clock.advance(250)
        for _ in range(20):
            tokens.get()
        assert "the token was not refreshed, the token is valid for 50 s more" in caplog.text
        reads_right(src)
        for _ in range(20):
            clock.advance(3600)
            with pytest.raises(InvalidCredentialsError) as raised:
                env.open(sandbox.url())
        row.shows(raised.value)
        row.costs(sandbox.requests("sso"))
        assert grants(sandbox.requests(), "password") == 1


@pytest.mark.fault("own clock wrong by hours", sees="right pixels", requests="1 for each renewal")
@pytest.mark.parametrize("hours", [-5, 5])
def test_wrong_clock(row, fleeting, hours):
    def wrong():
        return time.time() + hours * 3600

    settings = Settings.from_environ()
    tokens = TokenSource(settings=settings, clock=wrong)
    url = fleeting.url()
    with terrascope_env(tokens=tokens), rasterio.open(url) as src:
        read_until(src, fleeting.file(), fleeting, refreshed(2), forget=lambda: cache.forget(url))
    requests = fleeting.requests("sso")
    assert grants(requests, "password") == 1
    assert tokens_sent(fleeting.requests("data")) == {"valid"}
    row.costs(most_at_once(requests, 0.7))  # tokens of 2 s are renewed after 1 s


@pytest.mark.parametrize("hours", [-5, 5])
def test_retry_after_as_a_date_on_a_wrong_clock(sandbox, patient, waits, hours):
    tokens = patient(clock=Clock(time.time() + hours * 3600))
    sandbox.fail(503, server="sso", headers={"Retry-After": formatdate(time.time() + 20, usegmt=True)})
    tokens.get()
    (wait,) = waits
    assert 10 < wait < 30


@pytest.mark.fault(
    "laptop asleep for 8 hours",
    sees="right pixels; a plain read in the first second may fail",
    requests="1 for the renewal",
)
@pytest.mark.parametrize("clocks", ["one stood still", "both went on"])
def test_laptop_asleep(row, sandbox, patient, clock, reads_right, clocks):
    tokens = patient(clock=clock)
    with terrascope_env(tokens=tokens) as env, rasterio.open(sandbox.url()) as src:
        reads_right(src)
        sandbox.expire_tokens()
        sandbox.clear()
        clock.wall += 8 * 3600
        clock.monotonic += 8 * 3600 * (clocks == "both went on")
        with env.open(f"{sandbox.url()}?again") as again:  # at once
            reads_right(again)
        reads_right(src)
        row.costs(sandbox.requests("sso"))
    assert tokens_sent(sandbox.requests("data")) == {"valid"}


@pytest.mark.fault("tokens of 24 hours", sees="right pixels", requests="1 a day")
def test_tokens_of_24_hours(row, sandbox, patient, clock, reads_right):
    sandbox.token_answer({"expires_in": 24 * 3600})
    tokens = patient(clock=clock)
    with terrascope_env(tokens=tokens), rasterio.open(sandbox.url()) as src:
        tokens.stop()
        sandbox.clear()
        for _ in range(1439):
            clock.advance(60)
            tokens.get()
        reads_right(src)
        clock.advance(1)
        tokens.get()
        reads_right(src)
        row.costs(sandbox.requests("sso"))
