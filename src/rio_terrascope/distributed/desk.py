"""The scheduler's side: the desk where workers fetch the newest token of each login."""

import asyncio
import contextlib
import logging
import time
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol.serialize import ToPickle

from rio_terrascope.secret import Secret, also_half_made

# Below Dask's own logger, so that client.get_worker_logs() and the dashboard show these messages.
log = logging.getLogger("distributed.worker.rio_terrascope")

# How long a worker's request waits for the next token. The client renews at about the same time as
# the workers ask, so the token arrives within a round trip or two.
WAIT_SECONDS = 10.0
RETRY_SECONDS = 1.0  # between two attempts to reach the scheduler


class SealedToken(Secret):
    """An access token in a message.

    `distributed` logs messages at DEBUG by their repr. So the token stays closed on the way, and is pickled
    only into the bytes that are sent.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return SealedToken, (self.reveal(),)


def sealed(access_token: Secret) -> Any:
    """Return an access token as a part of a message. It arrives as a `SealedToken`."""
    return ToPickle(SealedToken(access_token.reveal()))


class TokenDesk(SchedulerPlugin):
    """A scheduler plugin that keeps the newest access token of each login for the workers.

    Tokens are kept in memory only. Dask's logs, events, metadata and cluster dumps do not contain them.
    """

    name = "rio-terrascope"
    idempotent = True  # one desk serves all logins of a cluster

    def __init__(self) -> None:
        self._logins: dict[str, _LoginState] = {}
        self._closing = False

    @also_half_made
    def __repr__(self) -> str:
        return f"<TokenDesk, {len(self._logins)} logins>"

    async def start(self, scheduler: Scheduler) -> None:
        """Register the handlers, as Dask's own locks, queues and variables do."""
        self._scheduler = scheduler
        scheduler.handlers["terrascope_put"] = self.put
        scheduler.handlers["terrascope_get"] = self.get
        scheduler.handlers["terrascope_end"] = self.end

    async def put(
        self, login: str, number: int, client: str, access_token: Secret, seconds_left: float, in_use: bool
    ) -> bool:
        """Store the newest token of a login; called by the client.

        Parameters
        ----------
        login : str
            The id of the login.
        number : int
            The token's number: the client counts the tokens of a login from 1.
        client : str
            The Dask client's id.
        access_token : Secret
        seconds_left : float
            How long the token is valid, in place of a time: the machines' clocks may differ.
        in_use : bool
            Whether workers in the client's own process have used the login. They do not ask the desk.

        Returns
        -------
        bool
            Whether the login is still needed: False after its plugin was unregistered.
        """
        state = self._logins.setdefault(login, _LoginState())
        if number > state.number:
            state.number, state.access_token = number, access_token
            state.expires_at = time.monotonic() + seconds_left
        state.client, state.abandoned = client, False
        state.notify()
        # Search the pickled plugins: the user may have chosen the names that they are registered under.
        registered = any(login.encode() in plugin for plugin in self._scheduler.worker_plugins.values())
        state.in_use |= registered or in_use
        return registered or not state.in_use

    async def get(self, login: str, after: int, urgent: bool) -> dict[str, Any]:
        """Return the next valid token of a login, or whether its client is gone; called by a worker.

        Waits until there is a token, but at most `WAIT_SECONDS`.

        Parameters
        ----------
        login : str
            The id of the login.
        after : int
            The number of the worker's token; 0 if it has none. The next one has a higher number.
        urgent : bool
            Ask the client for a new token now: the worker's token was refused or has expired.

        Returns
        -------
        dict
            ``abandoned``: whether the client is gone. If there is a next token, also its ``number``,
            ``access_token`` and ``seconds_left``.
        """
        state = self._logins.setdefault(login, _LoginState())  # the client's first token may be on its way
        state.in_use = True
        if urgent and state.number == after and state.renewal_requested != after:
            state.renewal_requested = after  # ask the client once, however many workers need the token
            self._scheduler.log_event(renewal_topic(login), {"action": "renew", "number": after})
        deadline = time.monotonic() + WAIT_SECONDS
        while not (
            state.has_token_after(after) or state.abandoned or self._closing or time.monotonic() >= deadline
        ):
            await state.wait(deadline - time.monotonic())
        answer: dict[str, Any] = {"abandoned": state.abandoned}
        if state.has_token_after(after):
            answer["number"], answer["access_token"] = state.number, sealed(state.access_token)
            answer["seconds_left"] = state.expires_at - time.monotonic()
        return answer

    async def end(self, login: str) -> None:
        """Note that a client has ended a login; called by the client."""
        if login in self._logins:
            self._logins[login].abandon()

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Note that a client has disconnected; called by Dask."""
        for state in self._logins.values():
            if state.client == client:
                state.abandon()

    async def before_close(self) -> None:
        """Answer the workers that wait for a token, because the scheduler is closing; called by Dask."""
        self._closing = True
        for state in self._logins.values():
            state.notify()


class _LoginState:
    """The newest token of one login. Not thread-safe: used in the scheduler's event loop only."""

    def __init__(self) -> None:
        self.number = 0
        self.access_token = Secret("")
        self.expires_at = 0.0  # on the monotonic clock
        self.client = ""
        self.abandoned = False  # the client has ended the login, or disconnected
        self.in_use = False  # the plugin has been registered, or a worker has used the login
        self.renewal_requested = 0  # the number of the last token that the client was asked to renew
        self._changed = asyncio.Event()

    @also_half_made
    def __repr__(self) -> str:
        return f"<token {self.number} of client {self.client!r}>"

    def has_token_after(self, number: int) -> bool:
        return self.number > number and self.expires_at > time.monotonic()

    def abandon(self) -> None:
        self.abandoned = True
        self.notify()

    def notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), max(seconds, 0.0))


def renewal_topic(login: str) -> str:
    """Return the topic of the events that ask a client for a new token. The events contain no token."""
    return f"rio-terrascope-{login}"
