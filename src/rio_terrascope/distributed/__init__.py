"""One login for a Dask cluster: the client holds it, every worker reads with it.

    client.register_plugin(TerrascopePlugin())

The way of a token: the client's process logs in and renews, as any does. Each new access token
goes to a desk on the scheduler (`TokenDesk`), and from there to the workers, each of which asks
for the next one when its own nears its end, and waits until it is there. A worker that joins or
restarts later asks as it starts. So the number of requests to the token endpoint does not depend
on the number of workers, and nothing but access tokens leaves the client's process.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
import time
import uuid
import weakref
from typing import Any

from rio_terrascope.auth.oidc import Token
from rio_terrascope.auth.tokens import TokenSource
from rio_terrascope.env import TerrascopeEnv
from rio_terrascope.errors import SettingsError, TerrascopeError, TokenEndpointError, install_advice
from rio_terrascope.gdal import libgdal
from rio_terrascope.settings import Settings

try:
    from distributed import Client, Scheduler, Worker, get_client
    from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin
except ImportError as error:
    raise ImportError(
        f"reading on a Dask cluster needs Dask's 'distributed' ({error}). "
        f"Next: {install_advice('dask')}; for the client, the scheduler and the workers."
    ) from None

__all__ = ["TerrascopePlugin", "TokenDesk"]

# below distributed's own logger, so that client.get_worker_logs() and the dashboard show it
log = logging.getLogger("distributed.worker.rio_terrascope")

# How long the desk lets a worker wait for a token that is newer than the one it has: the client
# asks for it at the moment when the workers do, and has it after one round trip.
PATIENCE = 10.0
RETRY_SECONDS = 1.0  # between two attempts to hand a token on, or to join


class TokenDesk(SchedulerPlugin):
    """On the scheduler: keeps the newest access token of each login for the workers to fetch.

    In memory only; Dask's logs, events, metadata and cluster dumps do not hold it.
    """

    name = "rio-terrascope"
    idempotent = True  # one desk for all logins of a cluster

    def __init__(self) -> None:
        self._shelves: dict[str, _Shelf] = {}
        self._closing = False

    def __repr__(self) -> str:
        return f"<TokenDesk, {len(self._shelves)} logins>"

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
        shelf = self._shelves.setdefault(login, _Shelf())
        if number > shelf.number:
            shelf.number, shelf.access_token = number, access_token
            shelf.ends_at = time.monotonic() + seconds_left
        shelf.client, shelf.left_alone = client, False
        shelf.tell()
        # what is registered are pickled plugins, under names that the user may have chosen
        registered = any(login.encode() in plugin for plugin in self._scheduler.worker_plugins.values())
        shelf.in_use |= registered or in_use
        return registered or not shelf.in_use

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
            ``number``, ``access_token``, ``seconds_left``: of a later, valid token, or number 0.
            ``left_alone``: whether the client is gone.
        """
        shelf = self._shelves.setdefault(login, _Shelf())  # the client may still be on its way
        shelf.in_use = True
        if urgent and shelf.number == after != shelf.wanted_after:
            shelf.wanted_after = after  # however many workers want it, it is asked for once
            self._scheduler.log_event(_topic(login), {"action": "renew", "number": after})
        deadline = time.monotonic() + PATIENCE
        while not (
            shelf.has_news(after) or shelf.left_alone or self._closing or time.monotonic() >= deadline
        ):
            await shelf.wait(deadline - time.monotonic())
        if not shelf.has_news(after):
            return {"number": 0, "access_token": "", "seconds_left": 0.0, "left_alone": shelf.left_alone}
        return {
            "number": shelf.number,
            "access_token": shelf.access_token,
            "seconds_left": shelf.ends_at - time.monotonic(),
            "left_alone": shelf.left_alone,
        }

    async def end(self, login: str) -> None:
        """Note that a client has given up a login."""
        if login in self._shelves:
            self._shelves[login].leave_alone()

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Tell the workers that wait for the next token of a client that there will be none."""
        for shelf in self._shelves.values():
            if shelf.client == client:
                shelf.leave_alone()

    async def before_close(self) -> None:
        """Let nobody wait for a scheduler that ends."""
        self._closing = True
        for shelf in self._shelves.values():
            shelf.tell()


class _Shelf:
    """The newest token of one login, on the scheduler. Used in its event loop only."""

    def __init__(self) -> None:
        self.number = 0
        self.access_token = ""
        self.ends_at = 0.0  # on the monotonic clock
        self.client = ""
        self.left_alone = False
        self.in_use = False  # the plugin is registered, or has been
        self.wanted_after = 0  # the last token whose successor the client was asked for
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<token {self.number} of {self.client or 'a client on its way'}>"

    def has_news(self, after: int) -> bool:
        return self.number > after and self.ends_at > time.monotonic()

    def leave_alone(self) -> None:
        self.left_alone = True
        self.tell()

    def tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), max(seconds, 0.0))


class TerrascopePlugin(WorkerPlugin):
    """A Dask plugin with which every worker reads Terrascope's protected files, through plain rasterio.

    To make it logs in, in the client's process, which reads as well from then on, as after
    `rio_terrascope.login`. Workers, also those that join or restart later, receive access tokens
    only, always before the last one expires, and keep them in memory and in their own header file.
    They need this package installed, and so does the scheduler; they look for no credentials. In a
    task ``terrascope_env()`` without a username joins the worker's login.

    Dask sends the tokens as it sends everything else: where others can listen in the network between
    client, scheduler and workers, let Dask use TLS (`distributed.Security`).

    Parameters
    ----------
    username, password, settings, tokens
        As for `terrascope_env`. They stay in this process, except for the settings.
    client : distributed.Client, optional
        The client that the plugin is going to be registered with; the newest one where not given.
    name : str
        What the plugin is registered as, and unregistered by: ``client.unregister_worker_plugin(name)``.
    **gdal_options
        Options for GDAL, in this process and on the workers, as for `terrascope_env`.

    Raises
    ------
    TerrascopeError
        If there is no client, or the scheduler cannot serve tokens.
    SettingsError, CredentialsNotFoundError, InvalidCredentialsError, TokenEndpointError, AccountConflictError
        As entering a `TerrascopeEnv` does. Registering raises AccountConflictError where workers read as
        another account already.

    Notes
    -----
    The login ends with `close`, with the client, or at the first renewal after the plugin was
    unregistered. Workers then go on until the token they have expires, and say in their log who is gone.

    Examples
    --------
    >>> client.register_plugin(TerrascopePlugin())  # doctest: +SKIP
    """

    _holder: "_Holder | None" = None  # in the client's process
    _reader: "_Reader | None" = None  # on a worker

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        *,
        settings: Settings | None = None,
        tokens: TokenSource | None = None,
        client: Client | None = None,
        name: str = "rio-terrascope",
        **gdal_options: Any,
    ) -> None:
        try:
            client = client or get_client()
        except ValueError:
            raise TerrascopeError(
                "there is no Dask client to hand the tokens to. Next: make one first, client = Client(...), "
                "or name it: TerrascopePlugin(client=client)."
            ) from None
        self.name = name
        self._login = uuid.uuid4().hex
        self._gdal_options = gdal_options
        env = TerrascopeEnv(username, password, settings=settings, tokens=tokens, **gdal_options)
        del password  # from the frame, which tools that print local variables would show
        self._settings = env.settings
        self._holder = _Holder(self._login, client, env)
        self._holder.open(client)

    def __repr__(self) -> str:
        return f"<TerrascopePlugin {self.name!r} for {', '.join(self._settings.origins)}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return what goes to the scheduler and the workers: no secret, and nothing that leads to one."""
        return {
            "name": self.name,
            "_login": self._login,
            "_settings": self._settings,
            "_gdal_options": self._gdal_options,
        }

    def close(self) -> None:
        """End the login that this process holds; workers read on until the token they have expires."""
        if self._holder is not None:
            self._holder.close()

    async def setup(self, worker: Worker) -> None:
        """Let a worker read; Dask calls it before the worker's first task."""
        reason = libgdal.why_not_scoped()
        if reason is not None:
            raise SettingsError(
                f"the worker {worker.address} cannot read with tokens that change: {reason}. "
                "Next: install rasterio >= 1.4 from PyPI there."
            )
        self._reader = _Reader(self._login, self._settings, self._gdal_options, worker)
        await self._reader.open()

    def teardown(self, worker: Worker) -> None:
        """Take the access away from a worker, and all that belonged to it.

        Dask drops the running tasks of a worker that closes before it calls this, so none fails by it.
        """
        if self._reader is not None:
            self._reader.close()


class _Holder:
    """In the client's process: the login, and how its tokens get to the scheduler."""

    def __init__(self, login: str, client: Client, env: TerrascopeEnv) -> None:
        self.env = env
        self.process = os.getpid()
        self._login = login
        self._client: weakref.ref[Any] = weakref.ref(client)  # Dask closes a client that nobody holds
        self._lock = threading.Lock()
        self.in_use = False  # by a worker in this process, which does not ask the desk
        self._open = False
        self._number = 0
        self._token: Token | None = None
        self._opening: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<login of {self.env!r}>"

    def open(self, client: Any) -> None:
        self.env.__enter__()
        self._open = True
        _holders[self._login] = self
        if client.asynchronous:  # we are in its event loop: the desk opens while the plugin is registered
            self._opening = asyncio.ensure_future(self._serve(client))
            return
        try:
            client.sync(self._serve, client)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        with self._lock:
            if not self._open:
                return
            self._open = False
        _holders.pop(self._login, None)
        self.env.tokens.unsubscribe(self._take)
        self.env.__exit__()
        client = self._client()
        if client is not None and client.status == "running":
            client.loop.add_callback(self._say_goodbye, client)

    async def _serve(self, client: Any) -> None:
        """Open the desk, and put there the tokens from now on."""
        try:
            await client.register_plugin(TokenDesk())
        except Exception as error:  # whatever the scheduler raises: a module that is not there, say
            raise TerrascopeError(
                f"the scheduler cannot hand tokens on: {type(error).__name__}: {error}. Next: install "
                "rio-terrascope[dask] in the scheduler's environment too, of the same version."
            ) from error
        client.subscribe_topic(_topic(self._login), self._renew)
        self.env.tokens.subscribe(self._take)
        await self._hand_on()

    def _take(self, token: Token) -> None:
        """Note a new token; called by whoever renewed it, so it must not wait for anything."""
        self._number, self._token = self._number + 1, token
        client = self._client()
        if client is None or client.status in ("closing", "closed"):
            self._close_soon()
        else:
            client.loop.add_callback(self._hand_on)

    async def _hand_on(self) -> None:
        """Put the newest token on the desk; runs in the client's event loop."""
        number = self._number
        while self._open and number == self._number and self._token is not None:
            client = self._client()
            if client is None or client.status in ("closing", "closed") or client.scheduler is None:
                self._close_soon()
                return
            try:
                wanted = await client.scheduler.terrascope_put(
                    login=self._login,
                    number=number,
                    client=client.id,
                    access_token=self._token.access_token,
                    seconds_left=self._token.expires_at - time.time(),
                    in_use=self.in_use,
                )
            except OSError as error:  # Dask's errors of connections are OSErrors
                log.warning("the new token did not reach the scheduler yet, trying again: %s", error)
                del client
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not wanted:
                log.info("the plugin was unregistered or replaced; its login ends here.")
                self._close_soon()
            return

    async def _renew(self, event: tuple[float, dict[str, Any]]) -> None:
        """Get a new token before its time, for workers to whom the one they have is of no use."""
        token = self._token
        if event[1].get("number") != self._number or token is None:
            return  # it came meanwhile
        try:
            await asyncio.to_thread(self.env.tokens.refresh, token)
        except TerrascopeError as error:
            log.warning("a worker needs a new token, and there is none: %s", error)

    async def _say_goodbye(self, client: Any) -> None:
        with contextlib.suppress(OSError, AttributeError):  # the client has been closed meanwhile
            client.unsubscribe_topic(_topic(self._login))
            await client.scheduler.terrascope_end(login=self._login)

    def _close_soon(self) -> None:
        """Close in a thread of its own: we are in the event loop, or in the thread that `close` waits for."""
        threading.Thread(target=self.close, name="rio-terrascope-close", daemon=True).start()


_holders: dict[str, _Holder] = {}  # by login, of this process


class _Reader:
    """On a worker: its login, fed by the desk on the scheduler."""

    def __init__(self, login: str, settings: Settings, gdal_options: dict[str, Any], worker: Worker) -> None:
        self._login = login
        self._settings = settings
        self._gdal_options = gdal_options
        self._worker = worker
        self._link = _Link(login, settings, worker)
        self._fed: TokenSource | None = None
        self._env: _WorkerEnv | None = None
        self._joining: asyncio.Task[None] | None = None

    async def open(self) -> None:
        holder = _holders.get(self._login)
        if holder is not None and holder.process == os.getpid():
            holder.in_use = True
            self._enter(holder.env.tokens)  # a worker in the client's own process
            return
        try:
            # longer than the desk lets wait: with an asynchronous client it may not be open yet
            await self._join(time.monotonic() + PATIENCE)
        except TokenEndpointError as error:
            log.warning("%s cannot read from Terrascope yet: %s", self._worker.address, error)
            self._joining = asyncio.create_task(self._join_later())

    def close(self) -> None:
        if self._joining is not None:
            self._joining.cancel()
        if self._fed is not None:
            self._fed.stop()  # before the link, so that it does not complain about it
        self._link.close()
        env, self._env = self._env, None
        if env is not None:
            env.__exit__()

    async def _join(self, deadline: float) -> None:
        while True:
            try:
                token = await self._link.ask(0)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise self._link.trouble(error) from None
                await asyncio.sleep(RETRY_SECONDS / 4)
        self._fed = TokenSource(settings=self._settings, token=token, endpoint=self._link)
        self._enter(self._fed)

    async def _join_later(self) -> None:
        while self._env is None:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self._join(time.monotonic() + PATIENCE)
                log.warning("%s reads from Terrascope now", self._worker.address)
            except TokenEndpointError:
                continue  # said once

    def _enter(self, tokens: TokenSource) -> None:
        env = _WorkerEnv(settings=self._settings, tokens=tokens, **self._gdal_options)
        env.__enter__()
        self._env = env


class _WorkerEnv(TerrascopeEnv):
    _standing = True


class _Link:
    """What a worker's `TokenSource` has in place of a token endpoint: the desk on the scheduler.

    In place of a refresh token it has the number of the access token that the next one follows.
    """

    def __init__(self, login: str, settings: Settings, worker: Worker) -> None:
        self._login = login
        self._host = settings.token_host
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._process = os.getpid()
        self._closed = False
        self._asked: set[concurrent.futures.Future[Token]] = set()
        self._told = False

    async def ask(self, after: int, *, urgent: bool = False) -> Token:
        """Wait for the token that follows one; raise OSError where the scheduler cannot be reached."""
        answer = await self._worker.scheduler.terrascope_get(login=self._login, after=after, urgent=urgent)
        if answer["number"]:
            self._told = False
            return Token(
                answer["access_token"],
                expires_at=time.time() + answer["seconds_left"],
                refresh_token=str(answer["number"]),
            )
        if not answer["left_alone"]:
            raise TokenEndpointError(
                f"no new token for {self._host} has come from the Dask client that holds the login. Next: "
                "look at the client's log; it is there that tokens are renewed."
            )
        gone = (
            f"the Dask client that holds the login at {self._host} is gone, so no new token can be had: "
            "once the last one has expired, protected files answer 401. Next: connect a client, and register "
            "a TerrascopePlugin again."
        )
        if not self._told:
            self._told = True
            log.warning("%s: %s", self._worker.address, gone)
        raise TokenEndpointError(gone)

    def refresh_grant(self, refresh_token: str, *, attempts: int) -> Token:
        """Get the token that follows the one with this number; called in a thread, not in the event loop."""
        if os.getpid() != self._process:
            raise TokenEndpointError(
                "a forked child of a Dask worker receives no new tokens. Next: read in tasks, without fork."
            )
        if self._closed:
            raise TokenEndpointError("this worker's access has been taken away: the plugin was unregistered.")
        if threading.get_ident() == self._loop_thread:
            raise TokenEndpointError(
                "a coroutine in the worker's event loop cannot wait for a token. Next: read in a task that "
                "is an ordinary function."
            )
        # who cannot do without (a reader) makes several attempts; ahead of time it is one
        future = asyncio.run_coroutine_threadsafe(
            self.ask(int(refresh_token), urgent=attempts > 1), self._loop
        )
        self._asked.add(future)
        try:
            return future.result(timeout=3 * PATIENCE)
        except (OSError, concurrent.futures.CancelledError) as error:
            raise self.trouble(error) from None
        finally:
            future.cancel()
            self._asked.discard(future)

    def password_grant(self, username: str, password: str, *, attempts: int) -> Token:
        """Never asked for: workers have no password."""
        raise TokenEndpointError("a Dask worker has no password; its client has.")

    def trouble(self, error: BaseException) -> TokenEndpointError:
        reason = str(error) or type(error).__name__
        return TokenEndpointError(
            f"the Dask scheduler could not be asked for a token for {self._host}: {reason}. Next: look at "
            "the scheduler's log; it needs rio-terrascope[dask] too."
        )

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closed = True
        for future in self._asked.copy():
            future.cancel()


def _topic(login: str) -> str:
    """Name the events by which workers ask the client for a new token; they hold none."""
    return f"rio-terrascope-{login}"
