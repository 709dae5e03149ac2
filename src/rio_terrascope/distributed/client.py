"""In the client's process: the login, and how its tokens get to the scheduler."""

import asyncio
import contextlib
import os
import threading
import time
import weakref
from typing import Any

from distributed import Client

from rio_terrascope.auth.oidc import Token
from rio_terrascope.distributed.desk import RETRY_SECONDS, TokenDesk, log, renewal_topic
from rio_terrascope.env import TerrascopeEnv
from rio_terrascope.errors import TerrascopeError


class ClientLogin:
    """In the client's process: the login, and how its tokens get to the scheduler."""

    def __init__(self, login: str, client: Client, env: TerrascopeEnv) -> None:
        self.env = env
        self.pid = os.getpid()
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
        """Log in, and hand the tokens on from now on."""
        self.env.__enter__()
        self._open = True
        client_logins[self._login] = self
        if client.asynchronous:  # we are in its event loop: the desk opens while the plugin is registered
            self._opening = asyncio.ensure_future(self._open_desk(client))
            return
        try:
            client.sync(self._open_desk, client)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the login. May be called again."""
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
        """Open the desk, and put there the tokens from now on."""
        try:
            await client.register_plugin(TokenDesk())
        except Exception as error:  # whatever the scheduler raises: a module that is not there, say
            raise TerrascopeError(
                f"the scheduler cannot hand tokens on: {type(error).__name__}: {error}",
                next_step="install the same version of rio-terrascope[dask] in the scheduler's environment",
            ) from error
        client.subscribe_topic(renewal_topic(self._login), self._on_renewal_request)
        self.env.tokens.subscribe(self._on_new_token)
        await self._put_on_desk()

    def _living_client(self) -> Any:
        client = self._client()
        return None if client is None or client.status in ("closing", "closed") else client

    def _on_new_token(self, token: Token) -> None:
        """Note a new token; called by whoever renewed it, so it must not wait for anything."""
        self._number, self._token = self._number + 1, token
        client = self._living_client()
        if client is None:
            self._close_in_thread()
        else:
            client.loop.add_callback(self._put_on_desk)

    async def _put_on_desk(self) -> None:
        """Put the newest token on the desk; runs in the client's event loop."""
        number = self._number
        while self._open and number == self._number and self._token is not None:
            client = self._living_client()
            if client is None or client.scheduler is None:
                self._close_in_thread()
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
                self._close_in_thread()
            return

    async def _on_renewal_request(self, event: tuple[float, dict[str, Any]]) -> None:
        """Get a new token before its time, for workers to whom the one they have is of no use."""
        token = self._token
        if event[1].get("number") != self._number or token is None:
            return  # it came meanwhile
        try:
            await asyncio.to_thread(self.env.tokens.refresh, token)
        except TerrascopeError as error:
            log.warning("a worker needs a new token, and there is none: %s", error)

    async def _end_on_desk(self, client: Any) -> None:
        with contextlib.suppress(OSError, AttributeError):  # the client has been closed meanwhile
            client.unsubscribe_topic(renewal_topic(self._login))
            await client.scheduler.terrascope_end(login=self._login)

    def _close_in_thread(self) -> None:
        """Close in a thread of its own: we are in the event loop, or in the thread that `close` waits for."""
        threading.Thread(target=self.close, name="rio-terrascope-close", daemon=True).start()


client_logins: dict[str, ClientLogin] = {}  # by login, of this process
