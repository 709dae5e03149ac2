"""`Sandbox`: starts the servers, returns their URLs and files, and the requests they received."""

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

    Use it as a context manager, or call `start` and `stop`. The servers end with the process that started
    them, however that ends. The methods are thread-safe.

    Parameters
    ----------
    tiles : iterable of path-like
        GeoTIFFs to serve. A file named like a WorldCover tile is served at the path of that tile. The first
        other file takes the path of the 2020 tile N00E006; the rest are served at /download/<name>. The
        default is the synthetic WorldCover tiles N00E006 and S03E006 of 2020 and 2021, each made when it
        is first requested, which takes a few seconds.
    username, password : str
        The account that can log in.
    accounts : mapping, optional
        Further accounts: their passwords, by username.
    token_lifetime, refresh_lifetime : float
        Lifetimes of access and refresh tokens, in seconds and fractions of a second.
    rotate : bool
        Whether a refresh token can be used only once, as with Terrascope.
    latency : float
        Seconds to wait before each answer.
    archive : path-like
        The folder that, according to the catalogue, holds the files on Terrascope's own machines. Name a
        folder of yours to make this machine look like one of those.
    host : str
        The loopback address to listen on.

    Raises
    ------
    FileNotFoundError
        If one of the tiles does not exist.

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

    # Starting and stopping

    def start(self) -> Self:
        """Start the servers if they are not running.

        Returns
        -------
        Sandbox
            This sandbox.

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
        """Stop the servers. Do nothing if they are not running, or in a forked child."""
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
        """The id of the server process."""
        return self._running.pid

    # URLs

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables that point a client to this sandbox instead of Terrascope."""
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
        """The URL of the token endpoint."""
        return str(self._running.ready["token_url"])

    @property
    def catalogue_url(self) -> str:
        """The URL of the catalogue, a STAC API."""
        return self._origin("catalogue")

    @property
    def origin(self) -> str:
        """The origin of the data server."""
        return self._origin("data")

    @property
    def other_origin(self) -> str:
        """The origin of the open server."""
        return self._origin("other")

    @property
    def sso_origin(self) -> str:
        """The origin of the login server."""
        return self._origin("sso")

    def _origin(self, server: ServerName) -> str:
        return str(self._running.ready["origins"][server])

    @property
    def urls(self) -> list[str]:
        """The URLs of all tiles on the data server."""
        return [self.url(path) for path in self._tiles]

    def url(self, path: str = "") -> str:
        """Return a URL on the data server.

        Parameters
        ----------
        path : str
            A path, a path relative to /download/, or a URL whose path and query are used. If there is no
            path, as in "" or "?n=1", it is the first tile's.

        Returns
        -------
        str
            The URL.
        """
        return self.origin + self._path(path)

    def other_url(self, path: str = "") -> str:
        """Return a URL on the open server. `path` is as for `url`."""
        return self.other_origin + self._path(path)

    def redirect_url(
        self,
        path: str = "",
        *,
        to: Literal["other", "data", "signed"] = "other",
        status: Literal[300, 301, 302, 303, 307, 308] = 302,
        at: Literal["data", "other"] = "data",
    ) -> str:
        """Return a URL that redirects to the same path on another server.

        Parameters
        ----------
        path : str
            As for `url`. If it is a URL from this method, the redirects form a chain.
        to : {"other", "data", "signed"}
            The server to redirect to. "signed" is the open server, with a signature like S3's in the
            query. Like S3, it answers 400 if an Authorization header comes with a signature.
        status : int
            The status of the redirect.
        at : {"data", "other"}
            The server that redirects. The data server demands a token, as for every URL.

        Returns
        -------
        str
            The URL.
        """
        return f"{self._origin(at)}/download/redirect/{to}/{status}/{self._below_download(path)}"

    def signed_redirect_url(self, path: str = "") -> str:
        """Return a URL on the data server that redirects (302) to the open server, with a signature."""
        return self.redirect_url(path, to="signed")

    def _path(self, path: str) -> str:
        parts = urlsplit(path)
        clean = quote(unquote(parts.path or self._tiles[0]))
        clean = clean if clean.startswith("/") else f"/download/{clean}"
        return f"{clean}?{parts.query}" if parts.query else clean

    def _below_download(self, path: str) -> str:
        return self._path(path).removeprefix("/download/")

    # Files

    def file(self, url: str = "") -> Path:
        """Return the local file behind a URL or path, by default the first tile's, to compare pixels with.

        A synthetic file that does not exist yet is made now.

        Raises
        ------
        KeyError
            If no file is served there.
        """
        url_path = unquote(urlsplit(self._path(url)).path)
        if url_path not in self._files and (made := self._running.call("file", url_path=url_path)):
            self._files[url_path] = Path(made)
        return self._files[url_path]

    def add_file(self, file: str | os.PathLike[str], path: str) -> str:
        """Serve one more local file, on the data server and the open server.

        Parameters
        ----------
        file : path-like
            The file. It may change or be replaced later: each request gets its present content.
        path : str
            The URL path, relative to /download/. Files below /download/open/ need no token.

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

    # Received requests

    def requests(self, server: ServerName | None = None) -> list[Request]:
        """Return all requests so far, in order of arrival.

        Parameters
        ----------
        server : {"sso", "data", "catalogue", "other"}, optional
            Return only the requests to this server.

        Returns
        -------
        list of Request
            The requests, each with as much of its answer as has been sent.
        """
        return [Request(**request) for request in self._running.call("requests", server=server)]

    def clear(self) -> None:
        """Discard all requests so far."""
        self._running.call("clear")

    def take(self) -> list[Request]:
        """Return all requests so far and discard them, in one step: none is missed or returned twice."""
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
            Called with the list of requests. Waiting ends when it returns a true value.
        timeout : float
            In seconds.
        server : {"sso", "data", "catalogue", "other"}, optional
            Pass only the requests to this server.

        Returns
        -------
        list of Request
            The requests that satisfied the condition.

        Raises
        ------
        TimeoutError
            If none did in time.
        """
        deadline = time.monotonic() + timeout
        seen = None
        while True:
            # Fetch the list only when it has changed.
            changes = self._running.call("changes")
            if changes != seen:
                seen = changes
                requests = self.requests(server)
                if condition(requests):
                    return requests
            if time.monotonic() >= deadline:
                raise TimeoutError(f"The condition was not met in {timeout} s, by {len(requests)} requests")
            time.sleep(0.005)


def _existing(file: str | os.PathLike[str]) -> Path:
    path = Path(file).absolute()
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}")
    return path
