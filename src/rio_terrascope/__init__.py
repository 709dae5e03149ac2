"""Read Terrascope's protected rasters with rasterio."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rio_terrascope import stac, worldcover
    from rio_terrascope.auth.oidc import Token
    from rio_terrascope.auth.tokens import TokenSource
    from rio_terrascope.env import TerrascopeEnv, terrascope_env
    from rio_terrascope.errors import (
        AccessDeniedError,
        AccountConflictError,
        CatalogueError,
        CredentialsNotFoundError,
        InvalidCredentialsError,
        SettingsError,
        TerrascopeError,
        TerrascopeWarning,
        TokenEndpointError,
    )
    from rio_terrascope.notebooks import login, logout
    from rio_terrascope.reading import read_bbox, read_windows, sample
    from rio_terrascope.session import TerrascopeSession
    from rio_terrascope.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "AccountConflictError",
    "CatalogueError",
    "CredentialsNotFoundError",
    "InvalidCredentialsError",
    "Settings",
    "SettingsError",
    "TerrascopeEnv",
    "TerrascopeError",
    "TerrascopeSession",
    "TerrascopeWarning",
    "Token",
    "TokenEndpointError",
    "TokenSource",
    "login",
    "logout",
    "read_bbox",
    "read_windows",
    "sample",
    "stac",
    "terrascope_env",
    "worldcover",
]

# Imported on first use (PEP 562), so that `tsread --help` and `tsread token`, which import this package
# too, do not wait for rasterio.
_NAMES_BY_MODULE = {
    "auth.oidc": ("Token",),
    "auth.tokens": ("TokenSource",),
    "env": ("TerrascopeEnv", "terrascope_env"),
    "errors": (
        "AccessDeniedError",
        "AccountConflictError",
        "CatalogueError",
        "CredentialsNotFoundError",
        "InvalidCredentialsError",
        "SettingsError",
        "TerrascopeError",
        "TerrascopeWarning",
        "TokenEndpointError",
    ),
    "notebooks": ("login", "logout"),
    "reading": ("read_bbox", "read_windows", "sample"),
    "session": ("TerrascopeSession",),
    "settings": ("Settings",),
}
# the public modules, of which some need an extra
_MODULES = ("distributed", "sandbox", "stac", "worldcover")
_MODULE_OF = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"rio_terrascope.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"rio_terrascope.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
