"""On the scheduler: the desk where workers fetch the newest token of each login."""

import asyncio
import contextlib
import logging
import time
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

# below distributed's own logger, so that client.get_worker_logs() and the dashboard show it
log = logging.getLogger("distributed.worker.rio_terrascope")

# How long the desk lets a worker wait for a token that is newer than the one it has: the client
# asks for it at the moment when the workers do, and has it after one round trip.
WAIT_SECONDS = 10.0
RETRY_SECONDS = 1.0  # between two attempts to hand a token on, or to join


class TokenDesk(SchedulerPlugin):
    """On the scheduler: keeps the newest access token of each login for the workers to fetch.

    In memory only; Dask's logs, events, metadata and cluster dumps do not hold it.
    """

    name = "rio-terrascope"
    idempotent = True  # one desk for all logins of a cluster

    def __init__(self) -> None:
        self._logins: dict[str, _LoginState] = {}
        self._closing = False

    def __repr__(self) -> str:
        return f"<TokenDesk, {len(self._logins)} logins>"

    async def start(self, scheduler: Scheduler) -> None:
        """Open the desk, in the way of Dask's own locks, queues and variables."""
        self._scheduler = scheduler
        scheduler.handlers["terrascope_put"] = self.put
        scheduler.handlers["terrascope_get"] = self.get
        scheduler.handlers["terrascope_end"] = self.end

    async def put(
        self, login: str, number: int, client: str, access_token: str, seconds_left: float, in_use: bool
    ) -> bool:
        """Take the newest token from a client.

        Parameters
        ----------
        login : str
            Which plugin's login it is.
        number : int
            Which token of the login: a later one has a higher number.
        client : str
            The Dask client's id.
        access_token : str
        seconds_left : float
            How long it is valid. Not the time of its end: the machines' clocks may differ.
        in_use : bool
            Whether workers in the client's own process, which do not ask here, have used the login.

        Returns
        -------
        bool
            False where the plugin was registered and is not any more.
        """
        state = self._logins.setdefault(login, _LoginState())
        if number > state.number:
            state.number, state.access_token = number, access_token
            state.expires_at = time.monotonic() + seconds_left
        state.client, state.abandoned = client, False
        state.notify()
        # what is registered are pickled plugins, under names that the user may have chosen
        registered = any(login.encode() in plugin for plugin in self._scheduler.worker_plugins.values())
        state.in_use |= registered or in_use
        return registered or not state.in_use

    async def get(self, login: str, after: int, urgent: bool) -> dict[str, Any]:
        """Give a worker a valid token, once there is one, or tell it that nobody is there to renew it.

        Parameters
        ----------
        login : str
        after : int
            The number of the token that the worker has: it wants a later one.
        urgent : bool
            Ask the client for a new one now; to be used where that token is refused or dead.

        Returns
        -------
        dict
            ``abandoned``: whether the client is gone. ``number``, ``access_token``, ``seconds_left``: of a
            later, valid token, where there is one.
        """
        state = self._logins.setdefault(login, _LoginState())  # the client may still be on its way
        state.in_use = True
        if urgent and state.number == after and state.renewal_requested != after:
            state.renewal_requested = after  # however many workers want it, it is asked for once
            self._scheduler.log_event(renewal_topic(login), {"action": "renew", "number": after})
        deadline = time.monotonic() + WAIT_SECONDS
        while not (
            state.has_token_after(after) or state.abandoned or self._closing or time.monotonic() >= deadline
        ):
            await state.wait(deadline - time.monotonic())
        answer: dict[str, Any] = {"abandoned": state.abandoned}
        if state.has_token_after(after):
            answer["number"], answer["access_token"] = state.number, state.access_token
            answer["seconds_left"] = state.expires_at - time.monotonic()
        return answer

    async def end(self, login: str) -> None:
        """Note that a client has given up a login."""
        if login in self._logins:
            self._logins[login].abandon()

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Tell the workers that wait for the next token of a client that there will be none."""
        for state in self._logins.values():
            if state.client == client:
                state.abandon()

    async def before_close(self) -> None:
        """Let nobody wait for a scheduler that ends."""
        self._closing = True
        for state in self._logins.values():
            state.notify()


class _LoginState:
    """The newest token of one login, on the scheduler. Used in its event loop only."""

    def __init__(self) -> None:
        self.number = 0
        self.access_token = ""
        self.expires_at = 0.0  # on the monotonic clock
        self.client = ""
        self.abandoned = False
        self.in_use = False  # the plugin is registered, or has been
        self.renewal_requested = 0  # the last token whose successor the client was asked for
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<token {self.number} of {self.client or 'a client on its way'}>"

    def has_token_after(self, after: int) -> bool:
        return self.number > after and self.expires_at > time.monotonic()

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
    """Name the events by which workers ask the client for a new token; they hold none."""
    return f"rio-terrascope-{login}"
