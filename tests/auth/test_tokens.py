"""The refresh rules, with a fake clock and a fake endpoint, so that no test has to wait."""

import contextlib
import logging
import os
import pickle
import threading

import pytest

from helpers import Clock, in_child
from rio_terrascope import (
    CredentialsNotFoundError,
    InvalidCredentialsError,
    Settings,
    Token,
    TokenEndpointError,
    TokenSource,
)
from rio_terrascope.auth.oidc import RefreshRefusedError


class Endpoint:
    """Answers at once with numbered tokens, or raises an error from `trouble`. Notes each grant."""

    def __init__(self, clock, lifetime=300.0):
        self.clock = clock
        self.lifetime = lifetime
        self.grants = []
        self.trouble = []  # errors to raise, one a request
        self.before = lambda: None

    def _token(self, grant):
        self.grants.append(grant)
        self.before()
        if self.trouble:
            raise self.trouble.pop(0)
        n = len(self.grants)
        return Token(f"access{n}", self.clock.wall + self.lifetime, f"refresh{n}", self.clock.wall + 3600)

    def password_grant(self, username, password, *, attempts):
        return self._token("password")

    def refresh_grant(self, refresh_token, *, attempts):
        return self._token(f"refresh {refresh_token.reveal()}")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def endpoint(clock):
    return Endpoint(clock)


@pytest.fixture
def source(clock, endpoint):
    source = make(clock, endpoint)
    yield source
    thread = source.stop()
    if thread is not None:
        thread.join()


def make(clock, endpoint, **more):
    more.setdefault("username", "ann")
    more.setdefault("password", "s3cret")
    return TokenSource(
        settings=Settings(),
        endpoint=endpoint,
        clock=clock.read,
        monotonic=clock.read_monotonic,
        **more,
    )


@contextlib.contextmanager
def held(endpoint, ask, threads=1):
    """Call `ask` in threads. In the block, one of them waits for the endpoint, which answers when it ends."""
    inside, proceed = threading.Event(), threading.Event()

    def wait():
        inside.set()
        assert proceed.wait(10)

    endpoint.before = wait
    asking = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in asking:
        thread.start()
    assert inside.wait(10)
    yield
    proceed.set()
    for thread in asking:
        thread.join(10)


def down():
    return TokenEndpointError("no login at sso.terrascope.be: it is down")


def test_logs_in_once_and_keeps_the_token(source, endpoint, clock):
    first = source.get()
    clock.advance(200)
    assert source.get() is first
    assert endpoint.grants == ["password"]


@pytest.mark.parametrize(("lifetime", "threshold"), [(300, 60), (24 * 3600, 60), (80, 40), (2, 1)])
def test_refreshed_when_less_than_a_minute_or_half_its_life_remains(clock, lifetime, threshold):
    endpoint = Endpoint(clock, lifetime)
    source = make(clock, endpoint)
    source.get()
    clock.advance(lifetime - threshold - 0.01)
    source.get()
    assert endpoint.grants == ["password"]
    clock.advance(0.02)
    assert source.get().access_token == "access2"
    assert endpoint.grants == ["password", "refresh refresh1"]


def test_each_refresh_uses_the_newest_refresh_token(source, endpoint, clock):
    for _ in range(4):
        source.get()
        clock.advance(270)
    assert endpoint.grants == ["password", "refresh refresh1", "refresh refresh2", "refresh refresh3"]


def test_a_refused_refresh_token_means_a_password_grant(source, endpoint, clock):
    source.get()
    clock.advance(290)
    endpoint.trouble = [RefreshRefusedError("the login has ended (Session not active)")]
    assert source.get().access_token == "access3"
    assert endpoint.grants == ["password", "refresh refresh1", "password"]


def test_without_a_password_a_refused_refresh_token_is_the_end(clock, endpoint):
    source = make(clock, endpoint, username=None, password=None, token=Token("a", clock.wall + 300, "r"))
    clock.advance(301)
    endpoint.trouble = [RefreshRefusedError("the login has ended (Session not active). Next: log in again.")]
    for _ in range(3):
        with pytest.raises(InvalidCredentialsError, match="Session not active"):
            source.get()
    assert endpoint.grants == ["refresh r"]


def test_a_token_alone_lasts_as_long_as_it_lives(clock, endpoint):
    source = make(clock, endpoint, username=None, password=None, token=Token("a", clock.wall + 300))
    assert source.get().access_token == "a"
    clock.advance(301)
    with pytest.raises(InvalidCredentialsError, match="log in again"):
        source.get()
    assert endpoint.grants == []


def test_somebody_elses_password_is_not_taken_for_a_token(clock, endpoint, monkeypatch):
    monkeypatch.setenv("TERRASCOPE_USERNAME", "somebody")
    monkeypatch.setenv("TERRASCOPE_PASSWORD", "else")
    source = make(clock, endpoint, username=None, password=None, token=Token("a", clock.wall + 300))
    assert source.username is None


def test_no_credentials_at_all(clock, endpoint, monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("TERRASCOPE_USERNAME", raising=False)
    with pytest.raises(CredentialsNotFoundError):
        make(clock, endpoint, username=None, password=None)


def test_trouble_while_the_token_lives_is_logged_and_not_raised(source, endpoint, clock, caplog):
    first = source.get()
    clock.advance(250)
    endpoint.trouble = [down()]
    with caplog.at_level(logging.WARNING):
        assert source.get() is first
    assert "valid for 50 s more" in caplog.text
    assert endpoint.grants == ["password", "refresh refresh1"]


def test_trouble_is_not_retried_at_once(source, endpoint, clock):
    source.get()
    clock.advance(250)
    endpoint.trouble = [down(), down(), down()]
    for _ in range(100):
        source.get()
    assert len(endpoint.grants) == 2
    clock.advance(1.0)  # the longest that the first pause can be
    for _ in range(100):
        source.get()
    assert len(endpoint.grants) == 3
    clock.advance(1.0)  # the second one lasts between 1 and 2 s
    for _ in range(100):
        source.get()
    assert len(endpoint.grants) <= 4


def test_trouble_is_raised_once_the_token_has_expired(source, endpoint, clock):
    source.get()
    clock.advance(301)
    endpoint.trouble = [down(), down()]
    with pytest.raises(TokenEndpointError, match="it is down"):
        source.get()
    with pytest.raises(TokenEndpointError, match="it is down"):
        source.get()  # from memory, within the pause
    assert len(endpoint.grants) == 2
    clock.advance(30)
    endpoint.trouble = []
    assert source.get().access_token == "access3"


def test_a_wrong_password_is_sent_once(source, endpoint, clock):
    endpoint.trouble = [InvalidCredentialsError("refused: the username or password is wrong")]
    for _ in range(5):
        with pytest.raises(InvalidCredentialsError, match="wrong"):
            source.get()
        clock.advance(3600)
    with pytest.raises(InvalidCredentialsError):
        source.refresh()
    source.refresh_if_due()
    assert endpoint.grants == ["password"]


def test_a_new_password_is_adopted_if_it_is_right(source, endpoint, clock):
    from rio_terrascope.auth.credentials import Credentials

    source.get()
    endpoint.trouble = [InvalidCredentialsError("wrong")]
    with pytest.raises(InvalidCredentialsError):
        source.adopt(Credentials("ann", "mistyped"))
    assert source.get().access_token == "access1"
    assert source.knows(Credentials("ann", "s3cret"))
    source.adopt(Credentials("ann", "changed"))
    assert source.knows(Credentials("ann", "changed"))
    assert source.get().access_token == "access3"


def test_one_request_at_a_time_whoever_asks(source, endpoint):
    tokens = []
    with held(endpoint, lambda: tokens.append(source.get()), threads=24):
        pass
    assert endpoint.grants == ["password"]
    assert len(tokens) == 24
    assert len(set(map(id, tokens))) == 1


def test_a_failure_reaches_every_waiting_caller(source, endpoint):
    endpoint.trouble = [InvalidCredentialsError("wrong")] * 24
    errors = []

    def ask():
        try:
            source.get()
        except InvalidCredentialsError as error:
            errors.append(error)

    with held(endpoint, ask, threads=24):
        pass
    assert endpoint.grants == ["password"]
    assert len(errors) == 24
    assert len(set(map(id, errors))) == 24  # a copy for each, so that their tracebacks do not mix


def test_others_go_on_with_a_valid_token_while_one_refreshes(source, endpoint, clock):
    first = source.get()
    clock.advance(250)
    with held(endpoint, source.get):
        assert source.get() is first  # would hang if it waited
    assert source.get().access_token == "access2"


def test_refresh_asks_now_unless_the_token_was_refreshed_already(source, endpoint):
    first = source.get()
    second = source.refresh(stale=first)
    assert second.access_token == "access2"
    assert source.refresh(stale=first) is second
    assert source.refresh().access_token == "access3"


def test_a_laptop_that_slept_refreshes(source, endpoint, clock):
    source.get()
    clock.wall += 8 * 3600  # the monotonic clock stood still
    assert source.get().access_token == "access2"


def test_a_wall_clock_set_back_does_not_keep_a_dead_token(source, endpoint, clock):
    source.get()
    clock.wall -= 8 * 3600
    clock.monotonic += 301
    assert source.get().access_token == "access2"


def test_background_thread_refreshes_without_being_asked(source, endpoint, clock):
    told = threading.Event()
    seen = []

    def listener(token):
        seen.append(token.access_token)
        if token.access_token == "access2":
            told.set()

    source.subscribe(listener)
    source.get()
    source.start()
    clock.advance(250)
    assert told.wait(10)
    assert seen == ["access1", "access2"]
    assert source.current.access_token == "access2"


def test_background_thread_outlives_trouble(source, endpoint, clock):
    endpoint.trouble = []
    source.get()
    endpoint.trouble = [down(), RuntimeError("a bug")]
    told = threading.Event()
    source.subscribe(lambda token: told.set())
    source.start()
    clock.advance(250)
    clock_runs = threading.Thread(
        target=lambda: [clock.advance(0.01) for _ in iter(lambda: not told.wait(0.005), False)]
    )
    clock_runs.start()
    assert told.wait(10)
    clock_runs.join()


def test_stop_ends_the_thread(source):
    source.get()
    source.start()
    source.start()
    assert sum(t.name == "rio-terrascope-refresh" for t in threading.enumerate()) == 1
    thread = source.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_a_forgotten_source_ends_its_thread(clock, endpoint):
    source = make(clock, endpoint)
    source.get()
    source.start()
    thread = source._thread
    del source
    thread.join(10)
    assert not thread.is_alive()


def test_a_listener_that_fails_is_called_again(source, endpoint, clock, caplog):
    done = threading.Event()
    answers = [OSError(28, "No space left on device"), None]

    def listener(token):
        answer = answers.pop(0)
        if answer:
            raise answer
        done.set()

    source.subscribe(listener)
    source.get()
    assert "No space left" in caplog.text
    source.start()
    assert done.wait(10)
    source.unsubscribe(listener)
    source.refresh()
    assert answers == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_refresh(source, endpoint, clock):
    first = source.get()
    clock.advance(250)

    def renew():  # the lock is held by a thread that does not exist in the child
        endpoint.before = lambda: None
        clock.advance(60)
        # a password grant: the refresh token is left to the parent
        assert (source.get().access_token, endpoint.grants[-1]) == ("access3", "password")

    with held(endpoint, source.get):
        in_child(renew)
    assert source.get() is not first


def test_nothing_shows_a_secret(source):
    token = source.get()
    for text in (repr(source), str(source), repr(token), str(token), f"{token}"):
        assert "s3cret" not in text
        assert "access1" not in text
        assert "refresh1" not in text
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(source)
