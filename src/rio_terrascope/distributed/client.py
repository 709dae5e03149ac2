"""The client's side: the login, and how its tokens get to the scheduler."""

import asyncio
import contextlib
import os
import threading
import time
import weakref
from typing import Any

from distributed import Client

from rio_terrascope.auth.oidc import Token
from rio_terrascope.distributed.desk import RETRY_SECONDS, TokenDesk, log, renewal_topic, sealed
from rio_terrascope.env import TerrascopeEnv
from rio_terrascope.errors import TerrascopeError
from rio_terrascope.secret import also_half_made


class ClientLogin:
    """A login in the client's process, whose access tokens are put on the scheduler's desk."""

    def __init__(self, login: str, client: Client, env: TerrascopeEnv) -> None:
        self.env = env
        self.pid = os.getpid()
        self.in_use = False  # by a worker in this process, which does not ask the desk
        self._login = login
        # a weak reference, because Dask closes a client when the last reference to it is gone
        self._client: weakref.ref[Any] = weakref.ref(client)
        self._lock = threading.Lock()
        self._open = False
        self._number = 0  # how many tokens this login has had
        self._token: Token | None = None
        self._opening: asyncio.Task[None] | None = None  # referenced here, so that it is not collected

    @also_half_made
    def __repr__(self) -> str:
        return f"<login of {self.env!r}>"

    def open(self, client: Any) -> None:
        """Log in, and put each token on the desk from now on."""
        self.env.__enter__()
        self._open = True
        client_logins[self._login] = self
        if client.asynchronous:
            # This thread runs the client's event loop, so it cannot wait. The desk opens while the plugin
            # is being registered.
            self._opening = asyncio.ensure_future(self._open_desk(client))
            return
        try:
            client.sync(self._open_desk, client)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the login. Calling it again does nothing."""
        with self._lock:
            if not self._open:
                return
            self._open = False
        client_logins.pop(self._login, None)
        self.env.tokens.unsubscribe(self._on_new_token)
        self.env.__exit__()
        client = self._client()
        if client is not None and client.status == "running":
            client.loop.add_callback(self._end_on_desk, client)

    async def _open_desk(self, client: Any) -> None:
        """Make sure that the scheduler has a desk, and put the tokens on it from now on."""
        try:
            await client.register_plugin(TokenDesk())
        except Exception as error:  # of any type: the scheduler may lack a module, for example
            raise TerrascopeError(
                f"the scheduler cannot pass tokens to workers: {type(error).__name__}: {error}",
                next_step="install the same version of rio-terrascope[dask] in the scheduler's environment",
            ) from error
        client.subscribe_topic(renewal_topic(self._login), self._on_renewal_request)
        self.env.tokens.subscribe(self._on_new_token)
        await self._put_on_desk()

    def _live_client(self) -> Any:
        """Return the client, or None if it is closed or no longer referenced."""
        client = self._client()
        return None if client is None or client.status in ("closing", "closed") else client

    def _on_new_token(self, token: Token) -> None:
        """Note a new token. Runs in the thread that renewed it, so it must not wait for anything."""
        self._number, self._token = self._number + 1, token
        client = self._live_client()
        if client is None:
            self._close_in_thread()
        else:
            client.loop.add_callback(self._put_on_desk)

    async def _put_on_desk(self) -> None:
        """Send the newest token to the scheduler. Runs in the client's event loop."""
        number = self._number
        while self._open and number == self._number and self._token is not None:
            client = self._live_client()
            if client is None or client.scheduler is None:
                self._close_in_thread()
                return
            try:
                wanted = await client.scheduler.terrascope_put(
                    login=self._login,
                    number=number,
                    client=client.id,
                    access_token=sealed(self._token.access_secret),
                    seconds_left=self._token.expires_at - time.time(),
                    in_use=self.in_use,
                )
            except OSError as error:  # the base class of Dask's connection errors
                log.warning("the new token has not reached the scheduler, trying again: %s", error)
                del client  # or the weak reference would stay alive during the sleep
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not wanted:
                log.info("the plugin was unregistered or replaced, so its login ends.")
                self._close_in_thread()
            return

    async def _on_renewal_request(self, event: tuple[float, dict[str, Any]]) -> None:
        """Renew the token early, for a worker whose token was refused or has expired."""
        token = self._token
        if event[1].get("number") != self._number or token is None:
            return  # it has been renewed since
        try:
            await asyncio.to_thread(self.env.tokens.refresh, token)
        except TerrascopeError as error:
            log.warning("a worker needs a new token, but the renewal failed: %s", error)

    async def _end_on_desk(self, client: Any) -> None:
        with contextlib.suppress(OSError, AttributeError):  # the client may have closed since
            client.unsubscribe_topic(renewal_topic(self._login))
            await client.scheduler.terrascope_end(login=self._login)

    def _close_in_thread(self) -> None:
        """Close in a new thread: the caller may be the event loop, or a thread that `close` waits for."""
        threading.Thread(target=self.close, name="rio-terrascope-close", daemon=True).start()


client_logins: dict[str, ClientLogin] = {}  # the open logins of this process, by id
