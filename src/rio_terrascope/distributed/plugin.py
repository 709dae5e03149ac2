"""The plugin that a Dask client registers so that every worker can read."""

import uuid
from typing import Any

from distributed import Client, Worker, get_client
from distributed.diagnostics.plugin import WorkerPlugin

from rio_terrascope.auth.tokens import TokenSource
from rio_terrascope.distributed.client import ClientLogin
from rio_terrascope.distributed.worker import WorkerLogin
from rio_terrascope.env import TerrascopeEnv
from rio_terrascope.errors import SettingsError, TerrascopeError
from rio_terrascope.gdal import libgdal
from rio_terrascope.secret import Secret, also_half_made
from rio_terrascope.settings import Settings


class TerrascopePlugin(WorkerPlugin):
    """A Dask plugin that lets every worker read Terrascope's protected files with plain rasterio.

    Creating the plugin logs in, in the client's process, where reads work from then on as after
    `rio_terrascope.login`. Workers receive access tokens only, each before the last one expires, also
    if they join or restart later. They keep them in memory only, and look for no credentials. In a task,
    ``terrascope_env()`` without a username uses the worker's login. The scheduler and the workers need
    this package installed.

    Dask sends tokens as it sends everything else. If others can listen on the network between client,
    scheduler and workers, make Dask use TLS (`distributed.Security`).

    Parameters
    ----------
    username, password, settings, tokens
        The login, as for `terrascope_env`. Only the settings leave this process.
    client : distributed.Client, optional
        The client that you will register the plugin with. Default: the newest one.
    name : str
        The name to register the plugin under, for ``client.unregister_worker_plugin(name)``.
    **gdal_options
        Options for GDAL, as for `terrascope_env`; used in this process and on the workers.

    Raises
    ------
    TerrascopeError
        If there is no client, or the scheduler cannot pass tokens to workers.
    SettingsError, CredentialsNotFoundError, InvalidCredentialsError, TokenEndpointError, AccountConflictError
        As entering a `TerrascopeEnv` does. Registering the plugin raises AccountConflictError if workers
        already read as another account.

    Notes
    -----
    The login ends with `close`, when the client closes, or at the first renewal after the plugin was
    unregistered. Workers then read until their token expires, and log that the client is gone.

    Examples
    --------
    >>> client.register_plugin(TerrascopePlugin())  # doctest: +SKIP
    """

    _client_login: ClientLogin | None = None  # in the client's process
    _worker_login: WorkerLogin | None = None  # on a worker

    def __init__(
        self,
        username: str | None = None,
        password: str | Secret | None = None,
        *,
        settings: Settings | None = None,
        tokens: TokenSource | None = None,
        client: Client | None = None,
        name: str = "rio-terrascope",
        **gdal_options: Any,
    ) -> None:
        password = Secret.of(password)  # tools that print local variables would show it
        try:
            client = client or get_client()
        except ValueError:
            raise TerrascopeError(
                "there is no Dask client to send the tokens through",
                next_step="create one first, or pass it: TerrascopePlugin(client=client)",
            ) from None
        self.name = name
        self._login = uuid.uuid4().hex
        self._gdal_options = gdal_options
        env = TerrascopeEnv(username, password, settings=settings, tokens=tokens, **gdal_options)
        self._settings = env.settings
        self._client_login = ClientLogin(self._login, client, env)
        self._client_login.open(client)

    @also_half_made
    def __repr__(self) -> str:
        return f"<TerrascopePlugin {self.name!r} for {', '.join(self._settings.origins)}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return what is sent to the scheduler and the workers. It contains no secret."""
        return {
            "name": self.name,
            "_login": self._login,
            "_settings": self._settings,
            "_gdal_options": self._gdal_options,
        }

    def close(self) -> None:
        """End this process's login. Workers can read until their token expires."""
        if self._client_login is not None:
            self._client_login.close()

    async def setup(self, worker: Worker) -> None:
        """Give a worker access. Dask calls this before the worker's first task."""
        reason = libgdal.why_not_scoped()
        if reason is not None:
            raise SettingsError(
                f"the worker {worker.address} cannot use tokens that are renewed: {reason}",
                next_step="install rasterio >= 1.4 from PyPI on it",
            )
        self._worker_login = WorkerLogin(self._login, self._settings, self._gdal_options, worker)
        await self._worker_login.open()

    def teardown(self, worker: Worker) -> None:
        """Remove a worker's access.

        When a worker closes, Dask drops its running tasks before it calls this, so none of them fails.
        """
        if self._worker_login is not None:
            self._worker_login.close()
