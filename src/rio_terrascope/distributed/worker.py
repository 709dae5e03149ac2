"""On a worker: its login, fed by the desk on the scheduler."""

import asyncio
import concurrent.futures
import os
import threading
import time
from typing import Any

from distributed import Worker

from rio_terrascope.auth.oidc import Token
from rio_terrascope.auth.tokens import TokenSource
from rio_terrascope.distributed.client import client_logins
from rio_terrascope.distributed.desk import RETRY_SECONDS, WAIT_SECONDS, log
from rio_terrascope.env import TerrascopeEnv
from rio_terrascope.errors import TokenEndpointError
from rio_terrascope.settings import Settings

# The real one stays with the client. A `TokenSource` renews only a token that has one.
_REFRESH_TOKEN = "with the Dask client"


class WorkerLogin:
    """On a worker: its login, fed by the desk on the scheduler."""

    def __init__(self, login: str, settings: Settings, gdal_options: dict[str, Any], worker: Worker) -> None:
        self._login = login
        self._settings = settings
        self._gdal_options = gdal_options
        self._worker = worker
        self._endpoint = _DeskEndpoint(login, settings, worker)
        self._tokens: TokenSource | None = None
        self._env: _WorkerEnv | None = None
        self._joining: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Let this worker read; if no token can be had yet, warn and go on asking in the background."""
        client_login = client_logins.get(self._login)
        if client_login is not None and client_login.pid == os.getpid():
            client_login.in_use = True
            self._enter(client_login.env.tokens)  # a worker in the client's own process
            return
        try:
            # longer than the desk lets wait: with an asynchronous client it may not be open yet
            await self._join()
        except TokenEndpointError as error:
            log.warning("%s cannot read from Terrascope yet: %s", self._worker.address, error)
            self._joining = asyncio.create_task(self._join_later())

    def close(self) -> None:
        """Take the access away again."""
        if self._joining is not None:
            self._joining.cancel()
        if self._tokens is not None:
            self._tokens.stop()  # before the link, so that it does not complain about it
        self._endpoint.close()
        env, self._env = self._env, None
        if env is not None:
            env.__exit__()

    async def _join(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                self._endpoint.number, token = await self._endpoint.ask(urgent=False)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise self._endpoint.trouble(error) from None
                await asyncio.sleep(RETRY_SECONDS / 4)
        self._tokens = TokenSource(settings=self._settings, token=token, endpoint=self._endpoint)
        self._enter(self._tokens)

    async def _join_later(self) -> None:
        while self._env is None:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self._join()
                log.warning("%s reads from Terrascope now", self._worker.address)
            except TokenEndpointError:
                continue  # said once

    def _enter(self, tokens: TokenSource) -> None:
        env = _WorkerEnv(settings=self._settings, tokens=tokens, **self._gdal_options)
        env.__enter__()
        self._env = env


class _WorkerEnv(TerrascopeEnv):
    _standing = True


class _DeskEndpoint:
    """What a worker's `TokenSource` has in place of a token endpoint: the desk on the scheduler.

    Attributes
    ----------
    number : int
        Which of the login's tokens the source has; it gets those with a higher number. 0 before the first.
    """

    def __init__(self, login: str, settings: Settings, worker: Worker) -> None:
        self._login = login
        self._host = settings.token_host
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._pid = os.getpid()
        self._closed = False
        self._request: concurrent.futures.Future[tuple[int, Token]] | None = None
        self._told = False
        self.number = 0

    async def ask(self, *, urgent: bool) -> tuple[int, Token]:
        """Wait for the next token and its number; raise OSError where the scheduler cannot be reached."""
        answer = await self._worker.scheduler.terrascope_get(
            login=self._login, after=self.number, urgent=urgent
        )
        if "access_token" in answer:
            self._told = False
            return answer["number"], Token(
                answer["access_token"],
                expires_at=time.time() + answer["seconds_left"],
                refresh_token=_REFRESH_TOKEN,
            )
        if not answer["abandoned"]:
            raise TokenEndpointError(
                f"no new token for {self._host} has come from the Dask client that holds the login",
                next_step="look at the client's log; it is there that tokens are renewed",
            )
        gone = TokenEndpointError(
            f"the Dask client that holds the login at {self._host} is gone, so no new token can be had: "
            "once the last one has expired, protected files answer 401",
            next_step="connect a client, and register a TerrascopePlugin again",
        )
        if not self._told:
            self._told = True
            log.warning("%s: %s", self._worker.address, gone)
        raise gone

    def refresh_grant(self, refresh_token: str, *, attempts: int) -> Token:
        """Get the next token from the desk; called in a thread, not in the event loop."""
        if os.getpid() != self._pid:
            raise TokenEndpointError(
                "a forked child of a Dask worker receives no new tokens",
                next_step="read in tasks, without fork",
            )
        if self._closed:
            raise TokenEndpointError("this worker's access has been taken away: the plugin was unregistered.")
        if threading.get_ident() == self._loop_thread:
            raise TokenEndpointError(
                "a coroutine in the worker's event loop cannot wait for a token",
                next_step="read in a task that is an ordinary function",
            )
        # a `TokenSource` makes one attempt when it renews early, and more when a reader needs the token
        reader_waits = attempts > 1
        request = asyncio.run_coroutine_threadsafe(self.ask(urgent=reader_waits), self._loop)
        self._request = request
        try:
            self.number, token = request.result(timeout=3 * WAIT_SECONDS)
        except (OSError, concurrent.futures.CancelledError) as error:
            raise self.trouble(error) from None
        finally:
            request.cancel()
            self._request = None
        return token

    def password_grant(self, username: str, password: str, *, attempts: int) -> Token:
        """Never asked for: workers have no password."""
        raise TokenEndpointError("a Dask worker has no password; its client has.")

    def trouble(self, error: BaseException) -> TokenEndpointError:
        reason = str(error) or type(error).__name__
        return TokenEndpointError(
            f"the Dask scheduler could not be asked for a token for {self._host}: {reason}",
            next_step="look at the scheduler's log; it needs rio-terrascope[dask] too",
        )

    def close(self) -> None:
        """Let nobody wait any longer."""
        self._closed = True
        request = self._request  # a source makes one at a time
        if request is not None:
            request.cancel()
