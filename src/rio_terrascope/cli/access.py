"""How commands open rasters: with a login for Terrascope's URLs, without one for all others."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from rio_terrascope.cli.group import request_options
from rio_terrascope.cli.output import say
from rio_terrascope.cli.signals import stop_on_signals

if TYPE_CHECKING:
    from rio_terrascope.auth.tokens import TokenSource
    from rio_terrascope.reading.raster import Raster
    from rio_terrascope.settings import Settings

CACHE = 16 * 2**20  # bytes of decoded blocks; GDAL's default is 5 % of the memory


def token_source(settings: "Settings") -> "TokenSource":
    """Return the login to use; if none is found, ask for one at the terminal.

    Raises
    ------
    CredentialsNotFoundError
        If none is found and there is no terminal.
    """
    from rio_terrascope.auth.tokens import TokenSource
    from rio_terrascope.errors import CredentialsNotFoundError

    try:
        return TokenSource(settings=settings)
    except CredentialsNotFoundError:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
    say(f"No login found for {settings.token_host} ('tsread login' saves one).")
    username, password = ask_for_credentials()
    return TokenSource(username, password, settings=settings)


def ask_for_credentials(username: str | None = None) -> tuple[str, str]:
    """Ask for a username and password at the terminal, without showing the password."""
    username = username or click.prompt("Username", err=True)
    return username, click.prompt("Password", hide_input=True, err=True)


@contextlib.contextmanager
def access(*urls: str) -> Iterator[None]:
    """Make rasters readable inside the block, with a login if one of them is at a Terrascope origin.

    Parameters
    ----------
    *urls : str
        Anything that `rasterio.open` takes.
    """
    import rasterio

    from rio_terrascope.env import terrascope_env
    from rio_terrascope.settings import Settings

    settings = Settings.from_environ()
    # rasterio takes bytes here; a value of the user's own stays
    cache = {} if "GDAL_CACHEMAX" in os.environ else {"GDAL_CACHEMAX": CACHE}
    with contextlib.ExitStack() as stack:
        stack.enter_context(stop_on_signals())
        stack.enter_context(rasterio.Env(**cache, **request_options()))
        if any(settings.covers(url) for url in urls):
            tokens = token_source(settings)
            stack.enter_context(terrascope_env(settings=settings, tokens=tokens))
        _name_hosts_without_token(urls, settings)
        yield


@contextlib.contextmanager
def opened(url: str) -> Iterator["Raster"]:
    """Open a raster, with the access that it needs."""
    from rio_terrascope.reading.raster import Raster

    with access(url), Raster(url) as raster:
        yield raster


def _host(url: str) -> str:
    """Return host and port of a URL, without a user name or password; empty for a path."""
    try:
        return urlsplit(url.removeprefix("/vsicurl/")).netloc.rpartition("@")[2]
    except ValueError:  # GDAL will say that it is malformed
        return ""


def _name_hosts_without_token(urls: Iterable[str], settings: "Settings") -> None:
    others = {_host(url) for url in urls if not settings.covers(url)}
    for host in sorted(filter(None, others)):
        origins = ", ".join(settings.origins)
        say(f"{host} is not one of Terrascope's origins ({origins}): read without a token.")
