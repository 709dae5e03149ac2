"""The two servers with files: Terrascope's data server, which demands a token, and an open one."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from .app import Credentials, IncomingRequest, Site
from .faults import Faults
from .identity import Identity
from .journal import ServerName

DOWNLOAD = "/download/"
OPEN = f"{DOWNLOAD}open/"
REDIRECT = f"{DOWNLOAD}redirect/"
SIGNATURE = "X-Amz-Signature"

SHORT_RANGE = 2**22
"""Ranges of fewer bytes are read on the event loop: a block or two, a few milliseconds at most."""


class Files:
    """Local files by URL path. Both servers serve the same ones."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}
        self._deferred: dict[str, Callable[[], str]] = {}
        self._making = threading.Lock()
        # Used for single files: ranges, HEAD, ETag, Last-Modified and conditional requests.
        self._static = StaticFiles()

    def add(self, url_path: str, file: str) -> None:
        """Serve a file. It replaces an earlier one with the same URL path."""
        self._paths[url_path] = file
        self._deferred.pop(url_path, None)

    def add_deferred(self, url_path: str, make: Callable[[], str]) -> None:
        """Serve a file that is made when it is first requested, by `make`, which returns its local path."""
        self._deferred[url_path] = make

    def paths(self) -> list[str]:
        """Return the URL paths of all files, including those not made yet."""
        return [*self._paths, *self._deferred]

    def local(self, url_path: str) -> str | None:
        """Return the local file at a URL path, made first if necessary; None if there is none."""
        with self._making:
            make = self._deferred.get(url_path)
            if make is not None:
                made = make()
                if self._deferred.get(url_path) is make:
                    self.add(url_path, made)
        return self._paths.get(url_path)

    async def local_async(self, url_path: str) -> str | None:
        """Call `local` in a thread, so that other requests are answered while a file is made."""
        return await asyncio.to_thread(self.local, url_path)

    def answer(self, incoming: IncomingRequest, *, ranges: bool = True) -> ASGIApp:
        """Answer with the present content of a file, or with 404."""
        if incoming.path not in self._deferred:
            return self._answer(incoming, ranges=ranges)

        async def answer_when_made(scope: Scope, receive: Receive, send: Send) -> None:
            await self.local_async(incoming.path)
            await self._answer(incoming, ranges=ranges)(scope, receive, send)

        return answer_when_made

    def _answer(self, incoming: IncomingRequest, *, ranges: bool) -> Response:
        if incoming.method not in ("GET", "HEAD"):
            return PlainTextResponse("Method Not Allowed", 405, {"Allow": "GET, HEAD"})
        # Serve only files that were added: no directories, and no .aux.xml or .ovr beside a file.
        file = self._paths.get(incoming.path)
        try:
            status = os.stat(file) if file else None
        except OSError:
            status = None
        if file is None or status is None or not stat.S_ISREG(status.st_mode):
            return PlainTextResponse("Not Found", 404)
        if ranges:
            response = self._static.file_response(file, status, incoming.scope)
            return _answer_short_range(file, status.st_size, incoming, response) or response
        del MutableHeaders(scope=incoming.scope)["range"]
        response = self._static.file_response(file, status, incoming.scope)
        response.headers["accept-ranges"] = "none"
        return response


def _answer_short_range(
    file: str, size: int, incoming: IncomingRequest, response: Response
) -> Response | None:
    """Answer a request for one short range; return None for any other request.

    starlette reads files in threads. For the thousands of short ranges in a test, that takes four times as
    long as reading them here, from the page cache.
    """
    span = re.fullmatch(r"bytes=(\d+)-(\d+)", incoming.headers.get("range", ""))
    if span is None or incoming.method != "GET" or response.status_code != 200:
        return None
    first, last = int(span[1]), min(int(span[2]), size - 1)
    if not 0 <= last - first < SHORT_RANGE or "if-range" in incoming.headers:
        return None
    with open(file, "rb") as opened:
        opened.seek(first)
        content = opened.read(last - first + 1)
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return Response(content, 206, {**headers, "content-range": f"bytes {first}-{last}/{size}"})


class OpenSite(Site):
    """The open server: its files need no token.

    Like S3, it answers 400 to a signed URL with an Authorization header: one kind of access at a time.

    Parameters
    ----------
    files : Files
        The files to serve.
    origins : mapping
        The origins of the servers, by name, for redirects.
    """

    def __init__(self, files: Files, origins: Mapping[ServerName, str]) -> None:
        self._files = files
        self._origins = origins

    def answer(self, incoming: IncomingRequest, credentials: Credentials) -> ASGIApp:
        """Answer one request."""
        if SIGNATURE in incoming.query and incoming.authorizations:
            return PlainTextResponse("Only one auth mechanism allowed", 400)
        if incoming.path.startswith(REDIRECT):
            return _redirect(incoming, self._origins)
        return self._files.answer(incoming)


class DataSite(Site):
    """Terrascope's data server: its files need exactly one valid token.

    Parameters
    ----------
    files : Files
        The files to serve.
    identity : Identity
        Checks the tokens.
    faults : Faults
        The faults of this server.
    origins : mapping
        The origins of the servers, by name, for redirects.
    login_url : str
        The URL of the login page.
    """

    def __init__(
        self,
        files: Files,
        identity: Identity,
        faults: Faults,
        origins: Mapping[ServerName, str],
        login_url: str,
    ) -> None:
        self._files = files
        self._identity = identity
        self._faults = faults
        self._origins = origins
        self._login_url = login_url

    def inspect(self, incoming: IncomingRequest) -> Credentials:
        """Check the token."""
        authorizations = incoming.authorizations
        if not authorizations:
            return Credentials("none")
        if len(authorizations) > 1:
            return Credentials("duplicate")
        scheme, _, token = authorizations[0].partition(" ")
        if scheme.lower() != "bearer":
            return Credentials("invalid")
        state, username = self._identity.check(token)
        return Credentials(state, username=username)

    def answer(self, incoming: IncomingRequest, credentials: Credentials) -> ASGIApp:
        """Answer one request."""
        path = incoming.path
        if not path.startswith(DOWNLOAD):
            return PlainTextResponse("Not Found", 404)
        if not path.startswith(OPEN):
            if credentials.authorization != "valid":
                return self._unauthorized()
            if any(part in f"{path}?{incoming.query}" for part in self._faults.denied):
                return HTMLResponse("<html><body><h1>403 Forbidden</h1></body></html>\n", 403)
        if path.startswith(REDIRECT):
            return _redirect(incoming, self._origins)
        return self._files.answer(incoming, ranges=self._faults.ranges)

    def _unauthorized(self) -> Response:
        if self._faults.login_page:
            return RedirectResponse(self._login_url, 302)
        challenge = {"WWW-Authenticate": 'Bearer realm="terrascope", error="invalid_token"'}
        return PlainTextResponse("Unauthorized", 401, challenge)


def _redirect(incoming: IncomingRequest, origins: Mapping[ServerName, str]) -> Response:
    """Answer /download/redirect/<kind>/<status>/<path>. The kind is "data", "other" or "signed"."""
    kind, _, rest = incoming.path.removeprefix(REDIRECT).partition("/")
    status, _, rest = rest.partition("/")
    origin = {"data": origins["data"], "other": origins["other"], "signed": origins["other"]}.get(kind)
    if origin is None or status not in ("300", "301", "302", "303", "307", "308"):
        return PlainTextResponse("Not Found", 404)
    query = "&".join(filter(None, [_signature() if kind == "signed" else "", incoming.query]))
    return RedirectResponse(origin + quote(DOWNLOAD + rest) + (f"?{query}" if query else ""), int(status))


def _signature() -> str:
    """Return a query like the S3 signature in the temporary links of object stores."""
    now = time.gmtime()
    return urlencode(
        {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": time.strftime("SANDBOX/%Y%m%d/eu-central-1/s3/aws4_request", now),
            "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", now),
            "X-Amz-Expires": "3600",
            "X-Amz-SignedHeaders": "host",
            SIGNATURE: secrets.token_hex(32),
        }
    )
