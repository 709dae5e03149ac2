"""The plugin that a Dask client registers, so that every worker reads with one login."""

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
from rio_terrascope.settings import Settings


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

    _client_login: ClientLogin | None = None  # in the client's process
    _worker_login: WorkerLogin | None = None  # on a worker

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
                "there is no Dask client to hand the tokens to",
                next_step="make one first, client = Client(...), or name it: TerrascopePlugin(client=client)",
            ) from None
        self.name = name
        self._login = uuid.uuid4().hex
        self._gdal_options = gdal_options
        env = TerrascopeEnv(username, password, settings=settings, tokens=tokens, **gdal_options)
        del password  # from the frame, which tools that print local variables would show
        self._settings = env.settings
        self._client_login = ClientLogin(self._login, client, env)
        self._client_login.open(client)

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
        if self._client_login is not None:
            self._client_login.close()

    async def setup(self, worker: Worker) -> None:
        """Let a worker read; Dask calls it before the worker's first task."""
        reason = libgdal.why_not_scoped()
        if reason is not None:
            raise SettingsError(
                f"the worker {worker.address} cannot read with tokens that change: {reason}",
                next_step="install rasterio >= 1.4 from PyPI there",
            )
        self._worker_login = WorkerLogin(self._login, self._settings, self._gdal_options, worker)
        await self._worker_login.open()

    def teardown(self, worker: Worker) -> None:
        """Take the access away from a worker, and all that belonged to it.

        Dask drops the running tasks of a worker that closes before it calls this, so none fails by it.
        """
        if self._worker_login is not None:
            self._worker_login.close()
