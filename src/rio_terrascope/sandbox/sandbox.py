"""`Sandbox`: starts the servers, says where they are, and shows what they received."""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote, unquote, urlsplit

from .controls import Controls
from .journal import Request, ServerName
from .process import ServerProcess


class Sandbox(Controls):
    """A local stand-in for Terrascope, in a process of its own.

    A context manager; `start` and `stop` do the same by hand. It ends with the process that started it,
    whichever way that goes. Its methods may be called from any thread.

    Parameters
    ----------
    tiles : iterable of path-like
        GeoTIFFs to offer. A file with a WorldCover tile's name is offered under that tile's real path; the
        first other one takes the path of the 2020 tile N00E006; further ones go under /download/<name>.
        None: the synthetic WorldCover tiles N00E006 and S03E006 of 2020 and 2021. Each is made, in a few
        seconds, when it is first asked for.
    username, password : str
        The account.
    accounts : mapping, optional
        Passwords of further accounts, by username.
    token_lifetime, refresh_lifetime : float
        Lifetimes of access and refresh tokens in seconds; fractions count.
    rotate : bool
        Whether a refresh token that was used is dead, as with Terrascope.
    latency : float
        Seconds before each answer.
    archive : path-like
        The folder in which the catalogue says that the files lie on Terrascope's own machines. With one of
        your own, this machine can play one of those.
    host : str
        The loopback address to listen on.

    Raises
    ------
    FileNotFoundError
        If a tile is not there.

    Examples
    --------
    >>> with Sandbox(token_lifetime=2) as sandbox:
    ...     os.environ.update(sandbox.environ)
    ...     with terrascope_env(), rasterio.open(sandbox.url()) as dataset:
    ...         dataset.read(1, window=window)
    ...     sandbox.requests("sso")
    """

    def __init__(
        self,
        *,
        tiles: Iterable[str | os.PathLike[str]] = (),
        username: str = "researcher",
        password: str = "sandbox-password",
        accounts: Mapping[str, str] | None = None,
        token_lifetime: float = 300.0,
        refresh_lifetime: float = 3600.0,
        rotate: bool = True,
        latency: float = 0.0,
        archive: str | os.PathLike[str] = "/data/MTDA",
        host: str = "127.0.0.1",
    ) -> None:
        self.username = username
        self.password = password
        self._config = {
            "tiles": [str(_existing(tile)) for tile in tiles],
            "accounts": {**(accounts or {}), username: password},
            "token_lifetime": token_lifetime,
            "refresh_lifetime": refresh_lifetime,
            "rotate": rotate,
            "latency": latency,
            "archive": os.path.abspath(archive),
            "host": host,
        }
        self._files: dict[str, Path] = {}
        self._tiles: list[str] = []

    # Life

    def start(self) -> Self:
        """Start the servers, unless they run already.

        Returns
        -------
        Sandbox
            Itself.

        Raises
        ------
        ImportError
            If the `sandbox` extra is not installed.
        RuntimeError
            If the servers do not start.
        """
        if self._process is None:
            self._process = ServerProcess(self._config)
            self._tiles = self._process.ready["tiles"]
            self._files = {}
            atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """Stop the servers; nothing happens if they don't run, or in a forked child."""
        if self._process is not None:
            self._process.stop()
            self._process = None
            atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Sandbox at {self.origin}>" if self._process else "<Sandbox, not running>"

    @property
    def pid(self) -> int:
        """The server process's id."""
        return self._running.pid

    # Where things are

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables that lead a client here instead of to Terrascope."""
        return {
            "TERRASCOPE_USERNAME": self.username,
            "TERRASCOPE_PASSWORD": self.password,
            "TERRASCOPE_TOKEN_URL": self.token_url,
            "TERRASCOPE_CLIENT_ID": self._running.ready["client_id"],
            "TERRASCOPE_ORIGINS": self.origin,
            "TERRASCOPE_STAC_URL": self.catalogue_url,
        }

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return str(self._running.ready["token_url"])

    @property
    def catalogue_url(self) -> str:
        """The catalogue, a STAC API."""
        return self._origin("catalogue")

    @property
    def origin(self) -> str:
        """The data server's origin."""
        return self._origin("data")

    @property
    def other_origin(self) -> str:
        """The open server's origin."""
        return self._origin("other")

    @property
    def sso_origin(self) -> str:
        """The login server's origin."""
        return self._origin("sso")

    def _origin(self, server: ServerName) -> str:
        return str(self._running.ready["origins"][server])

    @property
    def urls(self) -> list[str]:
        """The URLs of all tiles, on the data server."""
        return [self.url(path) for path in self._tiles]

    def url(self, path: str = "") -> str:
        """Return a URL on the data server.

        Parameters
        ----------
        path : str
            A path, one below /download/, or a URL whose path and query are taken. Without a path, as in "" or
            "?n=1": the first tile's.

        Returns
        -------
        str
            The URL.
        """
        return self.origin + self._path(path)

    def other_url(self, path: str = "") -> str:
        """Return a URL on the open server; `path` is as for `url`."""
        return self.other_origin + self._path(path)

    def redirect_url(
        self,
        path: str = "",
        *,
        to: Literal["other", "data"] = "other",
        status: Literal[301, 302, 303, 307, 308] = 302,
    ) -> str:
        """Return a URL on the data server that redirects to the same path on another server.

        Parameters
        ----------
        path : str
            As for `url`.
        to : {"other", "data"}
            The server to redirect to.
        status : int
            The redirect's status.

        Returns
        -------
        str
            A URL that demands a token, as every other on the data server.
        """
        return f"{self.origin}/download/redirect/{to}/{status}/{self._below_download(path)}"

    def signed_redirect_url(self, path: str = "") -> str:
        """Return a URL on the data server that redirects to a signed one, as of S3, on the open server."""
        return f"{self.origin}/download/redirect/signed/{self._below_download(path)}"

    def _path(self, path: str) -> str:
        parts = urlsplit(path)
        clean = quote(unquote(parts.path or self._tiles[0]))
        clean = clean if clean.startswith("/") else f"/download/{clean}"
        return f"{clean}?{parts.query}" if parts.query else clean

    def _below_download(self, path: str) -> str:
        return self._path(path).removeprefix("/download/")

    # Files

    def file(self, url: str = "") -> Path:
        """Return the local file behind a URL or path, to compare pixels with; empty: the first tile's.

        A synthetic file that nobody has asked for yet is made now.

        Raises
        ------
        KeyError
            If no file is offered there.
        """
        url_path = unquote(urlsplit(self._path(url)).path)
        if url_path not in self._files and (made := self._running.call("file", url_path=url_path)):
            self._files[url_path] = Path(made)
        return self._files[url_path]

    def add_file(self, file: str | os.PathLike[str], path: str) -> str:
        """Offer one more local file, on the data and on the open server.

        Parameters
        ----------
        file : path-like
            The file. It may change or be replaced later: what is there is served.
        path : str
            The URL path, below /download/. Below /download/open/ no token is demanded.

        Returns
        -------
        str
            The URL on the data server.
        """
        local = _existing(file)
        url = self.url(path)
        url_path = unquote(urlsplit(url).path)
        self._running.call("add_file", url_path=url_path, file=str(local))
        self._files[url_path] = local
        return url

    # What was received

    def requests(self, server: ServerName | None = None) -> list[Request]:
        """Return every request so far, in order of arrival.

        Parameters
        ----------
        server : {"sso", "data", "catalogue", "other"}, optional
            Only those of one server.

        Returns
        -------
        list of Request
            With the answers as far as they have gone.
        """
        return [Request(**request) for request in self._running.call("requests", server=server)]

    def clear(self) -> None:
        """Forget all requests so far."""
        self._running.call("clear")

    def take(self) -> list[Request]:
        """Return every request so far, and forget them, in one step: none is missed or seen twice."""
        return [Request(**request) for request in self._running.call("take")]

    def wait_for(
        self,
        condition: Callable[[list[Request]], object],
        timeout: float = 10.0,
        *,
        server: ServerName | None = None,
    ) -> list[Request]:
        """Wait until the requests satisfy a condition.

        Parameters
        ----------
        condition : callable
            Takes the list of requests; true when it is time.
        timeout : float
            In seconds.
        server : {"sso", "data", "catalogue", "other"}, optional
            Only look at the requests of one server.

        Returns
        -------
        list of Request
            Those that satisfied it.

        Raises
        ------
        TimeoutError
            If they did not in time.
        """
        deadline = time.monotonic() + timeout
        seen = None
        while True:
            # The list is only fetched when there is something new in it.
            changes = self._running.call("changes")
            if changes != seen:
                seen = changes
                requests = self.requests(server)
                if condition(requests):
                    return requests
            if time.monotonic() >= deadline:
                raise TimeoutError(f"Not within {timeout} s; {len(requests)} requests so far")
            time.sleep(0.005)


def _existing(file: str | os.PathLike[str]) -> Path:
    path = Path(file).absolute()
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}")
    return path
