"""`login` and `logout`: a `terrascope_env` without a ``with`` block, for notebooks."""

import atexit
from typing import Any

from rio_terrascope.auth.tokens import TokenSource
from rio_terrascope.env import TerrascopeEnv
from rio_terrascope.registry import Scope
from rio_terrascope.secret import Secret
from rio_terrascope.settings import Settings


def login(
    username: str | None = None,
    password: str | Secret | None = None,
    *,
    settings: Settings | None = None,
    tokens: TokenSource | None = None,
    scope: Scope = "origins",
    **gdal_options: Any,
) -> TerrascopeEnv:
    """Enter a `terrascope_env` until `logout`, or until the process ends. For notebooks.

    A second call for the same account keeps the login and all open datasets.

    Parameters
    ----------
    username, password, settings, tokens, scope, **gdal_options
        As for `terrascope_env`.

    Returns
    -------
    TerrascopeEnv
        Entered: its ``open`` and ``refresh`` can be used.

    Raises
    ------
    SettingsError, CredentialsNotFoundError, InvalidCredentialsError, TokenEndpointError, AccountConflictError
        As entering a `TerrascopeEnv` does.
    """
    password = Secret.of(password)
    env = TerrascopeEnv(username, password, settings=settings, tokens=tokens, scope=scope, **gdal_options)
    env.__enter__()
    if not _until_logout:
        atexit.register(logout)
    _until_logout.append(env)
    return env


def logout() -> None:
    """Leave all envs that `login` has entered. Without a login, this does nothing."""
    while _until_logout:
        _until_logout.pop().__exit__()
    atexit.unregister(logout)


_until_logout: list[TerrascopeEnv] = []
