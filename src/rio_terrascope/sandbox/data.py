"""The two servers with files: Terrascope's, which demands a token, and an open one of somebody else's."""

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

SHORT_RANGE = 2**22
"""Bytes of a range that is read on the event loop: a block or two, some milliseconds at most."""


class Files:
    """Local files under URL paths; both servers offer the same ones."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}
        self._deferred: dict[str, Callable[[], str]] = {}
        self._making = threading.Lock()
        # Only its answer to one file is used: ranges, HEAD, ETag, Last-Modified, conditional requests.
        self._static = StaticFiles()

    def add(self, url_path: str, file: str) -> None:
        """Offer a file, in place of another that had the same URL path."""
        self._paths[url_path] = file
        self._deferred.pop(url_path, None)

    def add_deferred(self, url_path: str, make: Callable[[], str]) -> None:
        """Offer a file that is only made when somebody asks for it; `make` returns its local path."""
        self._deferred[url_path] = make

    def paths(self) -> list[str]:
        """Return the URL paths of all files, those to be made included."""
        return [*self._paths, *self._deferred]

    def local(self, url_path: str) -> str | None:
        """Return the local file under a URL path, and make it if it was promised; None: there is none."""
        with self._making:
            make = self._deferred.get(url_path)
            if make is not None:
                made = make()
                if self._deferred.get(url_path) is make:
                    self.add(url_path, made)
        return self._paths.get(url_path)

    async def local_async(self, url_path: str) -> str | None:
        """Do the same as `local`, in a thread, so that other requests are answered in the meantime."""
        return await asyncio.to_thread(self.local, url_path)

    def answer(self, incoming: IncomingRequest, *, ranges: bool = True) -> ASGIApp:
        """Answer with a file, whatever its content is now, or with 404."""
        if incoming.path not in self._deferred:
            return self._answer(incoming, ranges=ranges)

        async def answer_when_made(scope: Scope, receive: Receive, send: Send) -> None:
            await self.local_async(incoming.path)
            await self._answer(incoming, ranges=ranges)(scope, receive, send)

        return answer_when_made

    def _answer(self, incoming: IncomingRequest, *, ranges: bool) -> Response:
        if incoming.method not in ("GET", "HEAD"):
            return PlainTextResponse("Method Not Allowed", 405, {"Allow": "GET, HEAD"})
        # Only what was added is there: no directories, no .aux.xml or .ovr beside a file.
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
    """Return the answer to one short range at once; None leaves it to `response`.

    starlette reads files in threads, which for the thousands of small ranges of a test takes four times as
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
    """The open server: files for everybody.

    Parameters
    ----------
    files : Files
        What it offers.
    """

    def __init__(self, files: Files) -> None:
        self._files = files

    def answer(self, incoming: IncomingRequest, credentials: Credentials) -> ASGIApp:
        """Answer one request."""
        return self._files.answer(incoming)


class DataSite(Site):
    """Terrascope's data server: files for those who bring one valid token.

    Parameters
    ----------
    files : Files
        What it offers.
    identity : Identity
        Who knows what a token is worth.
    faults : Faults
        What it does wrong.
    origins : mapping
        The origins of the servers, by name: where redirects go.
    login_url : str
        The login page.
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
        """Say what the token is worth."""
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
            return self._redirect(path.removeprefix(REDIRECT), incoming.query)
        return self._files.answer(incoming, ranges=self._faults.ranges)

    def _unauthorized(self) -> Response:
        if self._faults.login_page:
            return RedirectResponse(self._login_url, 302)
        challenge = {"WWW-Authenticate": 'Bearer realm="terrascope", error="invalid_token"'}
        return PlainTextResponse("Unauthorized", 401, challenge)

    def _redirect(self, rest: str, query: str) -> Response:
        """Answer /download/redirect/<server>/<status>/<path> or /download/redirect/signed/<path>."""
        kind, _, rest = rest.partition("/")
        if kind == "signed":
            query = "&".join(filter(None, [_signature(), query]))
            server, status = "other", "302"
        else:
            server, (status, _, rest) = kind, rest.partition("/")
        origin = {"data": self._origins["data"], "other": self._origins["other"]}.get(server)
        if origin is None or status not in ("301", "302", "303", "307", "308"):
            return PlainTextResponse("Not Found", 404)
        return RedirectResponse(origin + quote(DOWNLOAD + rest) + (f"?{query}" if query else ""), int(status))


def _signature() -> str:
    """Return a query that looks like S3's signature, the way object stores hand out temporary links."""
    now = time.gmtime()
    return urlencode(
        {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": time.strftime("SANDBOX/%Y%m%d/eu-central-1/s3/aws4_request", now),
            "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", now),
            "X-Amz-Expires": "3600",
            "X-Amz-SignedHeaders": "host",
            "X-Amz-Signature": secrets.token_hex(32),
        }
    )
