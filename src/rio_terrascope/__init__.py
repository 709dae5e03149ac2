"""Read Terrascope's protected rasters with rasterio."""

from rio_terrascope import worldcover
from rio_terrascope.env import TerrascopeEnv, TerrascopeSession, login, logout, terrascope_env
from rio_terrascope.errors import (
    AccessDeniedError,
    AccountConflictError,
    CredentialsNotFoundError,
    InvalidCredentialsError,
    SettingsError,
    TerrascopeError,
    TerrascopeWarning,
    TokenEndpointError,
)
from rio_terrascope.oidc import Token
from rio_terrascope.reading import read_bbox, read_windows, sample
from rio_terrascope.settings import Settings
from rio_terrascope.tokens import TokenSource

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "AccountConflictError",
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
    "terrascope_env",
    "worldcover",
]
