"""Faults: what the sandbox has been told to do wrong."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import connection
from .journal import ServerName

Kind = Literal["fail", "hang", "reset", "truncate", "drip", "wrong_content_range"]

CHUNK = 1024
"""Bytes in one chunk of a dripping body."""


@dataclass
class Fault:
    """One thing to do wrong, to the requests it matches.

    Attributes
    ----------
    kind : str
        What to do.
    server : {"sso", "data", "catalogue", "other"}
        Where.
    times : int or None
        How many requests are still to be hit; None: all, until healed.
    match : str or None
        Only where the path (with its query) contains this.
    method : str or None
        Only requests with this method.
    status, headers, body, content_type
        The answer of a "fail"; the body in base64.
    after : int or None
        Body bytes that still go out before a "reset" or "truncate".
    seconds : float
        Pause after each chunk of a "drip".
    shifted : bool
        Whether the body under a "wrong_content_range" is that range's, not the one that was asked for.
    healed : asyncio.Event
        Set when the fault is over: what hangs by it is let go.
    """

    kind: Kind
    server: ServerName = "data"
    times: int | None = 1
    match: str | None = None
    method: str | None = None
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    content_type: str | None = None
    after: int | None = None
    seconds: float = 0.0
    shifted: bool = False
    healed: asyncio.Event = field(default_factory=asyncio.Event)

    def hits(
        self, server: ServerName, method: str, path: str, query: str, headers: Mapping[str, str]
    ) -> bool:
        """Return whether this request is to be hit."""
        if self.times == 0 or server != self.server or self.method not in (None, method):
            return False
        if self.match is not None and self.match not in f"{path}?{query}":
            return False
        # A fault in the body would be wasted on a request whose answer has none.
        if self.kind == "wrong_content_range":
            return method == "GET" and "range" in headers
        needs_body = self.kind in ("truncate", "drip") or self.after is not None
        return not (needs_body and method == "HEAD")

    def wrap(self, answer: ASGIApp) -> ASGIApp:
        """Return an application that does the wrong thing instead of, or around, the right answer."""

        async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
            if self.kind == "fail":
                await self._response()(scope, receive, send)
            elif self.kind == "hang":
                await _wait_for_any(_disconnected(receive), self.healed.wait())
                await connection.reset(scope)
                await _disconnected(receive)
            elif self.kind == "reset" and self.after is None:
                await connection.reset(scope)
                await _disconnected(receive)
            elif self.kind in ("reset", "truncate"):
                end = connection.reset if self.kind == "reset" else connection.close
                await answer(scope, receive, _cutting(send, self.after or 0, lambda: end(scope)))
                await _disconnected(receive)
            elif self.kind == "drip":
                await answer(scope, receive, _dripping(send, self.seconds))
            else:
                await answer(scope, receive, _shifting(send, self.shifted))

        return faulty

    def _response(self) -> Response:
        headers = dict(self.headers)
        if self.body is not None:
            content = base64.b64decode(self.body)
            return Response(content, self.status, headers, self.content_type or "text/plain")
        if self.server == "sso" and self.status in (400, 401):
            reason = "Invalid user credentials" if self.status == 401 else "Token is not active"
            error = {"error": "invalid_grant", "error_description": reason}
            return JSONResponse(error, self.status, headers)
        if self.status < 200 or self.status in (204, 304):
            return Response(None, self.status, headers)
        try:
            title = f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            title = str(self.status)
        # What a proxy in front of the service would show.
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
        return HTMLResponse(page, self.status, headers, self.content_type)


class Faults:
    """All faults of the sandbox.

    Parameters
    ----------
    latency : float
        Seconds before each answer.

    Attributes
    ----------
    latency : float
        Seconds before each answer, at present.
    ranges : bool
        Whether the data server honours Range.
    login_page : bool
        Whether the data server redirects to a login page instead of answering 401.
    denied : list of str
        Parts of paths that the account has no licence for.
    """

    def __init__(self, latency: float) -> None:
        self._usual_latency = latency
        self._faults: list[Fault] = []
        self.heal()

    def add(self, fault: Fault) -> None:
        """Let something go wrong from now on."""
        self._faults.append(fault)

    def take(
        self, server: ServerName, method: str, path: str, query: str, headers: Mapping[str, str]
    ) -> Fault | None:
        """Return the fault that hits this request: the oldest that matches."""
        for fault in self._faults:
            if fault.hits(server, method, path, query, headers):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def heal(self) -> None:
        """Do everything right again, and let go what hangs."""
        for fault in self._faults:
            fault.healed.set()
        self._faults = []
        self.latency = self._usual_latency
        self.ranges = True
        self.login_page = False
        self.denied: list[str] = []


async def _disconnected(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _wait_for_any(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _cutting(send: Send, size: int, end: Callable[[], Awaitable[None]]) -> Send:
    """Pass on the headers and `size` bytes of the body, then end the connection."""
    left = size
    ended = False

    async def cutting(message: Message) -> None:
        nonlocal left, ended
        if ended:
            return
        if message["type"] != "http.response.body":
            await send(message)
            return
        body = message.get("body", b"")[:left]
        left -= len(body)
        # "More to come", always: else the HTTP library would notice that the body is too short. Sent
        # even when empty, because the headers wait for the first piece of the body.
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if left == 0 or not message.get("more_body"):
            ended = True
            await end()

    return cutting


def _dripping(send: Send, seconds: float) -> Send:
    """Pass on the body in small chunks, with a pause after each."""

    async def dripping(message: Message) -> None:
        body = message.get("body", b"")
        while len(body) > CHUNK:
            await send({"type": "http.response.body", "body": body[:CHUNK], "more_body": True})
            await asyncio.sleep(seconds)
            body = body[CHUNK:]
        await send({**message, "body": body} if body else message)

    return dripping


def _shifting(send: Send, with_body: bool) -> Send:
    """Pass on a Content-Range that is one byte off; the body too, if told."""
    is_range = False
    is_first = True

    async def shifting(message: Message) -> None:
        nonlocal is_range, is_first
        if message["type"] == "http.response.start" and message["status"] == 206:
            is_range = True
            message = {**message, "headers": list(message["headers"])}
            headers = MutableHeaders(raw=message["headers"])
            if content_range := headers.get("content-range"):
                span, _, size = content_range.removeprefix("bytes ").partition("/")
                first, last = (int(number) + 1 for number in span.split("-"))
                headers["content-range"] = f"bytes {first}-{last}/{size}"
        elif message["type"] == "http.response.body" and is_range and with_body:
            body = message.get("body", b"")[1 if is_first else 0 :]
            is_first = False
            # some byte for the one beyond the range that was asked for
            message = {**message, "body": body if message.get("more_body") else body + b"\0"}
        await send(message)

    return shifting
