"""The worker's side: a login whose tokens come from the desk on the scheduler."""

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
from rio_terrascope.secret import Secret
from rio_terrascope.settings import Settings

# A `TokenSource` renews a token only if it has a refresh token. The real one stays with the client.
_REFRESH_TOKEN = "with the Dask client"


class WorkerLogin:
    """The login of one worker."""

    def __init__(self, login: str, settings: Settings, gdal_options: dict[str, Any], worker: Worker) -> None:
        self._login = login
        self._settings = settings
        self._gdal_options = gdal_options
        self._worker = worker
        self._endpoint = _DeskEndpoint(login, settings, worker)
        self._tokens: TokenSource | None = None
        self._env: TerrascopeEnv | None = None
        self._joining: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Get a token and use it for all reads. If there is none yet, log a warning and keep trying."""
        client_login = client_logins.get(self._login)
        if client_login is not None and client_login.pid == os.getpid():
            # this worker runs in the client's own process
            client_login.in_use = True
            self._enter(client_login.env.tokens)
            return
        try:
            await self._join()
        except TokenEndpointError as error:
            log.warning("%s cannot read from Terrascope yet: %s", self._worker.address, error)
            self._joining = asyncio.create_task(self._join_later())

    def close(self) -> None:
        """Stop using the login, and remove everything that it has set."""
        if self._joining is not None:
            self._joining.cancel()
        if self._tokens is not None:
            self._tokens.stop()  # before the endpoint, so that it does not log a failed renewal
        self._endpoint.close()
        env, self._env = self._env, None
        if env is not None:
            env.__exit__()

    async def _join(self) -> None:
        # An asynchronous client may still be opening the desk, so retry for a while.
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                self._endpoint.number, token = await self._endpoint.ask(urgent=False)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise self._endpoint.unreachable(error) from None
                await asyncio.sleep(RETRY_SECONDS / 4)
        self._tokens = TokenSource(settings=self._settings, token=token, endpoint=self._endpoint)
        self._enter(self._tokens)

    async def _join_later(self) -> None:
        while self._env is None:
            await asyncio.sleep(RETRY_SECONDS)
            try:
                await self._join()
                log.warning("%s can read from Terrascope now", self._worker.address)
            except TokenEndpointError:
                continue  # `open` has logged it

    def _enter(self, tokens: TokenSource) -> None:
        env = TerrascopeEnv(settings=self._settings, tokens=tokens, **self._gdal_options)
        self._env = env.enter_for_process()


class _DeskEndpoint:
    """The `Endpoint` of a worker's `TokenSource`: it gets tokens from the desk on the scheduler.

    Attributes
    ----------
    number : int
        The number of the source's token, 0 before the first. The desk is asked for a higher one.
    """

    def __init__(self, login: str, settings: Settings, worker: Worker) -> None:
        self.number = 0
        self._login = login
        self._host = settings.token_host
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._pid = os.getpid()
        self._request: concurrent.futures.Future[tuple[int, Token]] | None = None  # the one under way
        self._closed = False
        self._warned = False  # that the client is gone

    async def ask(self, *, urgent: bool) -> tuple[int, Token]:
        """Return the next token and its number. Runs in the worker's event loop.

        Raises
        ------
        TokenEndpointError
            If no token came in time.
        OSError
            If the scheduler cannot be reached.
        """
        answer = await self._worker.scheduler.terrascope_get(
            login=self._login, after=self.number, urgent=urgent
        )
        if "access_token" in answer:
            self._warned = False
            return answer["number"], Token(
                answer["access_token"].reveal(),
                expires_at=time.time() + answer["seconds_left"],
                refresh_token=_REFRESH_TOKEN,
            )
        if not answer["abandoned"]:
            raise TokenEndpointError(
                f"the Dask client that holds the login at {self._host} has sent no new token",
                next_step="look at the client's log, where failed renewals are reported",
            )
        gone = TokenEndpointError(
            f"the Dask client that holds the login at {self._host} is gone, so the token cannot be renewed: "
            "protected files answer 401 once it has expired",
            next_step="connect a client, and register a TerrascopePlugin again",
        )
        if not self._warned:
            self._warned = True
            log.warning("%s: %s", self._worker.address, gone)
        raise gone

    def refresh_grant(self, refresh_token: Secret, *, attempts: int) -> Token:
        """Return the next token from the desk. Blocks, so it must not be called in the event loop."""
        if os.getpid() != self._pid:
            raise TokenEndpointError(
                "a forked child of a Dask worker cannot get new tokens",
                next_step="read in the task itself, without forking",
            )
        if self._closed:
            raise TokenEndpointError("this worker can no longer read: the plugin was unregistered.")
        if threading.get_ident() == self._loop_thread:
            raise TokenEndpointError(
                "a coroutine in the worker's event loop cannot wait for a token",
                next_step="read in a task that is an ordinary function",
            )
        # A `TokenSource` makes one attempt when it renews early, and several when a reader is waiting.
        reader_waits = attempts > 1
        request = asyncio.run_coroutine_threadsafe(self.ask(urgent=reader_waits), self._loop)
        self._request = request
        try:
            self.number, token = request.result(timeout=3 * WAIT_SECONDS)
        except (OSError, concurrent.futures.CancelledError) as error:
            raise self.unreachable(error) from None
        finally:
            request.cancel()
            self._request = None
        return token

    def password_grant(self, username: str, password: Secret, *, attempts: int) -> Token:
        """Raise an error: workers have no password. Part of the `Endpoint` protocol."""
        raise TokenEndpointError("a Dask worker has no password; only its client has one.")

    def unreachable(self, error: BaseException) -> TokenEndpointError:
        """Return the exception for a scheduler that did not answer."""
        reason = str(error) or type(error).__name__
        return TokenEndpointError(
            f"the Dask scheduler could not be asked for a token for {self._host}: {reason}",
            next_step="look at the scheduler's log; it needs rio-terrascope[dask] too",
        )

    def close(self) -> None:
        """Make the request under way fail, and all later ones."""
        self._closed = True
        request = self._request
        if request is not None:
            request.cancel()
