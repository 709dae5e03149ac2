"""One valid token for the process, refreshed ahead of time.

The rules are those of refreshable credentials in well-known SDKs. A token is refreshed some time before
it expires. Until then nobody waits for the refresh, and trouble is logged and not raised. After that,
callers wait. There is one request at a time, whoever asks.
"""

import copy
import dataclasses
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable

from rio_terrascope.auth.credentials import Credentials, find_credentials
from rio_terrascope.auth.oidc import ATTEMPTS, Endpoint, RefreshRefusedError, Token, TokenEndpoint
from rio_terrascope.auth.store import SavedEndpoint, SavedLogin
from rio_terrascope.errors import InvalidCredentialsError, TerrascopeError, TokenEndpointError
from rio_terrascope.secret import Secret, also_half_made
from rio_terrascope.settings import Settings
from rio_terrascope.threads import Signal, start_thread

log = logging.getLogger(__name__)

EARLY_SECONDS = 60.0  # refresh when less than this remains, or less than half the token's life
BACKOFF_LIMIT = 30.0  # seconds between two attempts while the endpoint is in trouble
ASKED_LIMIT = 600.0  # seconds; the longest wait that an endpoint can ask for
# How often the background thread looks at the clock. A longer sleep would be measured with a clock
# that stands still while a laptop sleeps, so that the refresh would come too late.
TICK = 1.0


class TokenSource:
    """A token that is always valid: logs in at the first request, refreshes ahead of time.

    It is safe to use from any number of threads, and across a fork. It makes one request at a time.
    Other callers get the token that is still valid; if there is none, they wait.

    Parameters
    ----------
    username, password : str, optional
        The account, as for `terrascope_env`.
    settings : Settings, optional
        Read from the environment if not given.
    token : Token, optional
        A login to continue. Without a username and password the source ends with the token's refresh
        token: no credentials are looked for, since they might be another account's.
    endpoint : Endpoint, optional
        A replacement for `TokenEndpoint`, for tests or another kind of login.
    clock, monotonic : callable, optional
        The seconds of the wall clock, and of a clock that never jumps.

    Attributes
    ----------
    settings : Settings
    credentials : Credentials or None
        The username and password in use; None for a saved login or a token that was handed in.

    Raises
    ------
    CredentialsNotFoundError
        If there is neither a token nor a username and password.
    """

    def __init__(
        self,
        username: str | None = None,
        password: str | Secret | None = None,
        *,
        settings: Settings | None = None,
        token: Token | None = None,
        endpoint: Endpoint | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        password = Secret.of(password)
        self.settings = settings or Settings.from_environ()
        found: Credentials | SavedLogin | None = None
        if token is None or (username and password):
            found = find_credentials(self.settings, username, password)
        self.credentials = found if isinstance(found, Credentials) else None
        self._saved_by: str | None = None
        if isinstance(found, SavedLogin):
            # renewed together with the user's other processes, which use the same login
            token, self._saved_by = found.token, found.username
            endpoint = endpoint or SavedEndpoint(self.settings, found.username, clock=clock)
        self._endpoint = endpoint or TokenEndpoint(self.settings, clock=clock)
        self._clock = clock
        self._monotonic = monotonic
        # each with the question whether it has lost the token
        self._listeners: dict[Callable[[Token], None], Callable[[], bool]] = {}
        self._flight = threading.RLock()  # held while a request is under way
        self._telling = threading.Lock()  # held while listeners are told; never over a request
        self._thread: threading.Thread | None = None
        self._stopped = Signal()
        self._untold: set[Callable[[Token], None]] = set()  # those that could not take the newest token yet
        self._failures = 0  # ever
        self._failures_in_a_row = 0
        self._retry_at = 0.0  # on the monotonic clock
        self._last_error: TerrascopeError | None = None
        self._refusal: InvalidCredentialsError | None = None
        self._token: Token | None = None
        self._life = 0.0  # seconds that the token had when it came
        self._came_at = 0.0  # on the monotonic clock
        if token is not None:
            self._publish(token)
        _sources.add(self)

    @also_half_made
    def __repr__(self) -> str:
        state = f"valid for {self.seconds_left:.0f} s" if self._token else "not logged in yet"
        return f"<TokenSource of {self.username or 'a given token'} at {self.settings.token_host}, {state}>"

    def __reduce__(self) -> str:
        raise TypeError("a TokenSource cannot be pickled: it holds a login. Log in where it is needed.")

    @property
    def username(self) -> str | None:
        """The user of the login; None for a token that was given without a username."""
        return self.credentials.username if self.credentials else self._saved_by

    @property
    def account(self) -> tuple[str, ...]:
        """A key for the account: equal for two sources of one account."""
        if self.username is None:
            return (self.settings.token_url, self.settings.client_id, "", str(id(self)))
        return (self.settings.token_url, self.settings.client_id, self.username)

    @property
    def current(self) -> Token | None:
        """The newest token, valid or not, without any request."""
        return self._token

    @property
    def seconds_left(self) -> float:
        """How long the current token stays valid; zero or less if it has expired.

        The smaller value of two clocks: the wall clock goes on while a laptop sleeps, and the
        monotonic clock does not follow when somebody sets the wall clock back.
        """
        if self._token is None:
            return 0.0
        by_wall = self._token.expires_at - self._clock()
        return min(by_wall, self._life - (self._monotonic() - self._came_at))

    def get(self) -> Token:
        """Return a valid token. If there is one, this makes no request and does not wait.

        Without a background thread, one of the callers makes the early refresh. Its trouble is
        logged and not raised.

        Raises
        ------
        InvalidCredentialsError
            The login was refused. The same password is not sent again.
        TokenEndpointError
            There is no valid token, and the endpoint gives none now.
        """
        token = self._token
        if token is not None and self.seconds_left > 0:
            if not self._running:
                self.refresh_if_due()
            return self._token or token
        if self._last_error is not None and self._monotonic() < self._retry_at:
            raise _again(self._last_error)
        return self._renew(token, ATTEMPTS)

    def refresh(self, stale: Token | None = None) -> Token:
        """Get a new token now, even if the current one is still valid.

        Parameters
        ----------
        stale : Token, optional
            The token that was refused. If it has been replaced already, the new one is returned
            without a request.

        Raises
        ------
        InvalidCredentialsError, TokenEndpointError
            As `get` does.
        """
        # takes the lock, so that the listeners have the replacement too when this returns
        return self._renew(stale or self._token, ATTEMPTS)

    def refresh_if_due(self) -> None:
        """Make the early refresh if it is due, unless one is under way.

        Trouble is logged and retried after a while; nothing is raised.
        """
        token = self._token
        if token is None or self._refusal is not None or self._monotonic() < self._retry_at:
            return
        if self._due_in() > 0:
            return
        stopped = self._stopped.is_set()
        try:
            failures = self._failures
            self._alone(lambda: self._replace(token, 1, failures), 0.0)  # not if a request is under way
        except TerrascopeError as error:
            left = self.seconds_left
            state = f"the token is valid for {left:.0f} s more" if left > 0 else "the token has expired"
            # the source was stopped during the request, so the failure no longer matters
            level = logging.DEBUG if self._stopped.is_set() and not stopped else logging.WARNING
            log.log(level, "the token was not refreshed, %s: %s", state, error)

    def adopt(self, credentials: Credentials) -> Token:
        """Log in with these credentials now and, if they are right, use them from now on.

        Raises
        ------
        InvalidCredentialsError, TokenEndpointError
            As `get` does. The present login stays unchanged then.
        """

        def log_in() -> Token:
            token = self._endpoint.password_grant(
                credentials.username, credentials.password, attempts=ATTEMPTS
            )
            self.credentials, self._refusal = credentials, None
            self._publish(token)
            return token

        token = self._alone(log_in, self.settings.timeout + TICK)
        if token is None:
            raise self._waited_too_long()
        return token

    def knows(self, credentials: Credentials) -> bool:
        """Tell whether these are the username and password in use."""
        mine = self.credentials
        return mine is not None and (mine.username, mine.password) == (
            credentials.username,
            credentials.password,
        )

    def subscribe(
        self, listener: Callable[[Token], None], *, is_lost: Callable[[], bool] = lambda: False
    ) -> None:
        """Call `listener` with the current token now, and with each new token before callers get it.

        If a later call raises OSError, it is repeated until it succeeds. A listener must not ask
        this source for a token.

        Parameters
        ----------
        listener : callable
        is_lost : callable, optional
            The background thread asks it every second. If it returns True, the listener is called with
            the current token again.

        Raises
        ------
        OSError
            If the listener raises it for the current token.
        """
        with self._telling:
            if self._token is not None:
                listener(self._token)
            self._listeners[listener] = is_lost

    def unsubscribe(self, listener: Callable[[Token], None]) -> None:
        """Stop calling `listener`. A call under way has ended when this returns."""
        with self._telling:
            self._listeners.pop(listener, None)
            self._untold.discard(listener)

    def start(self) -> None:
        """Start the background thread that refreshes ahead of time, unless it runs already."""
        if not self._running:
            self._stopped = Signal()
            self._thread = threading.Thread(
                target=_refresh_in_background,
                args=(weakref.ref(self), self._stopped),
                name="rio-terrascope-refresh",
                daemon=True,
            )
            start_thread(self._thread)

    def stop(self) -> threading.Thread | None:
        """Tell the background thread to end, and return it for callers that wait for its end."""
        self._stopped.set()
        thread, self._thread = self._thread, None
        return thread

    @property
    def _running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _due_in(self) -> float:
        """Seconds until the early refresh is due."""
        return self.seconds_left - min(EARLY_SECONDS, self._life / 2)

    def _pause(self) -> float:
        """Seconds that the background thread may sleep."""
        if self._refusal is not None:
            return TICK
        return min(TICK, max(self._due_in(), self._retry_at - self._monotonic(), 0.02))

    def _renew(self, stale: Token | None, attempts: int) -> Token:
        """Replace `stale` by a new token. All callers that wait share one request."""
        failures = self._failures
        token = self._alone(lambda: self._replace(stale, attempts, failures), self.settings.timeout + TICK)
        if token is None:
            raise self._waited_too_long()
        return token

    def _replace(self, stale: Token | None, attempts: int, failures: int) -> Token:
        if self._token is not None and self._token is not stale and self.seconds_left > 0:
            return self._token  # it came while this caller waited
        if self._refusal is not None:
            raise _again(self._refusal)
        if self._failures != failures and self._last_error is not None:
            raise _again(self._last_error)  # this caller waited for a request that failed
        try:
            token = self._request(attempts)
        except TerrascopeError as error:
            self._note_failure(error)
            raise
        self._publish(token)
        return token

    def _alone(self, work: Callable[[], Token], seconds: float) -> Token | None:
        """Call `work` while no other thread does. Return None if another one still does after `seconds`.

        The lock is an RLock, which knows whether this thread holds it. Ctrl-C may come after the lock was
        acquired, and before a variable could tell.
        """
        try:
            return work() if self._flight.acquire(timeout=seconds) else None
        finally:
            try:  # noqa: SIM105 - fewer steps at which Ctrl-C can come
                self._flight.release()
            except RuntimeError:  # another thread holds it
                pass

    def _waited_too_long(self) -> TokenEndpointError:
        return TokenEndpointError(
            f"no login at {self.settings.token_host}: another thread has waited for an answer for "
            f"{self.settings.timeout:.0f} s",
            next_step="try again in a while, or set TERRASCOPE_TIMEOUT",
        )

    def _request(self, attempts: int) -> Token:
        """Try the refresh grant first, and the password only if that is refused."""
        refresh_token = self._token.refresh_secret if self._token else None
        refused: RefreshRefusedError | None = None
        if refresh_token is not None:
            try:
                return self._endpoint.refresh_grant(refresh_token, attempts=attempts)
            except RefreshRefusedError as error:
                refused = error
        if self.credentials is not None:
            if refused is not None:
                log.info("%s Logging in with the password instead.", refused)
            return self._endpoint.password_grant(
                self.credentials.username, self.credentials.password, attempts=attempts
            )
        raise refused or RefreshRefusedError(
            f"the login at {self.settings.token_host} has ended and cannot be renewed: there is "
            "neither a refresh token nor a password",
            next_step="log in again",
        )

    def _publish(self, token: Token) -> None:
        """Notify listeners before returning the token, so that callers find it already in place."""
        with self._telling:
            self._tell(token, self._listeners)
            self._life = token.expires_at - self._clock()
            self._came_at = self._monotonic()
            self._token = token
        self._last_error = None
        self._failures_in_a_row = 0
        self._retry_at = 0.0

    def _note_failure(self, error: TerrascopeError) -> None:
        self._failures += 1
        self._failures_in_a_row += 1
        self._last_error = error
        if isinstance(error, InvalidCredentialsError):
            self._refusal = error  # accounts get locked: never sent again
        # short-lived tokens leave less time for a retry
        first = min(1.0, self._life / 10) if self._life > 0 else 1.0
        pause = min(BACKOFF_LIMIT, first * 2.0 ** min(self._failures_in_a_row - 1, 30))
        pause *= random.uniform(0.5, 1.0)  # noqa: S311
        if isinstance(error, TokenEndpointError) and error.retry_after is not None:
            pause = max(pause, min(error.retry_after, ASKED_LIMIT))
        self._retry_at = self._monotonic() + pause

    def _tell(self, token: Token, listeners: Iterable[Callable[[Token], None]]) -> None:
        for listener in listeners:
            try:
                listener(token)
                self._untold.discard(listener)
            except OSError as error:
                self._untold.add(listener)
                log.error("the new token could not be handed on, trying again: %s", error)

    def _tell_again(self) -> None:
        with self._telling:
            if self._token is not None:
                lost = [listener for listener, is_lost in self._listeners.items() if is_lost()]
                self._tell(self._token, {*self._untold, *lost})

    def _after_fork_in_child(self) -> None:
        # another thread of the parent may have held a lock, and threads do not survive a fork
        self._flight = threading.RLock()
        self._telling = threading.Lock()
        self._stopped = Signal()
        self._thread = None
        # A refresh token can be used once, and the parent will use it. A child that has the
        # password logs in with that instead.
        if self._token is not None and self.credentials is not None:
            self._token = dataclasses.replace(self._token, refresh_token=None, refresh_expires_at=None)


def _refresh_in_background(ref: "weakref.ref[TokenSource]", stopped: Signal) -> None:
    """Refresh until stopped, or until the source is garbage-collected."""
    pause = 0.0
    while not stopped.wait(pause):
        source = ref()
        if source is None:
            return
        try:
            source.refresh_if_due()
            source._tell_again()
            pause = source._pause()
        except Exception:  # the thread must go on, or the token would never be refreshed again
            log.exception("unexpected trouble in the refresh thread; it goes on")
            pause = TICK
        del source


def _again(error: TerrascopeError) -> TerrascopeError:
    """Copy a remembered error, so that it does not collect the tracebacks of several callers."""
    return copy.copy(error)


_sources: "weakref.WeakSet[TokenSource]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for source in list(_sources):
        source._after_fork_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
