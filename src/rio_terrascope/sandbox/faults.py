"""The faults that the sandbox has been told to cause."""

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

Kind = Literal["fail", "hang", "reset", "truncate", "drip", "raw", "wrong_content_range", "multipart"]

CHUNK = 1024
"""Bytes in a chunk of a dripping body."""


@dataclass
class Fault:
    """A fault, and the requests it affects.

    Attributes
    ----------
    kind : str
        What goes wrong.
    server : {"sso", "data", "catalogue", "other"}
        The server it affects.
    times : int or None
        How many requests it will still affect; None for all, until healed.
    skip : int
        How many of the requests that it could affect pass first.
    match : str or None
        It affects only requests with this text in their path or query.
    method : str or None
        It affects only requests with this method.
    status, headers, body, content_type
        The answer of a "fail". The body is in base64.
    after : int or None
        Bytes of the body to send before a "reset" or "truncate".
    seconds : float
        The pause after each chunk of a "drip", and before each repetition of a "raw".
    repeat : str or None
        What a "raw" sends again and again after its body, in base64.
    shifted : bool
        Whether the body of a "wrong_content_range" is off by one byte too.
    healed : asyncio.Event
        Set when the fault is over, which ends the requests that hang.
    """

    kind: Kind
    server: ServerName = "data"
    times: int | None = 1
    skip: int = 0
    match: str | None = None
    method: str | None = None
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    content_type: str | None = None
    after: int | None = None
    seconds: float = 0.0
    repeat: str | None = None
    shifted: bool = False
    healed: asyncio.Event = field(default_factory=asyncio.Event)

    def hits(
        self, server: ServerName, method: str, path: str, query: str, headers: Mapping[str, str]
    ) -> bool:
        """Return whether the fault affects this request."""
        if self.times == 0 or server != self.server or self.method not in (None, method):
            return False
        if self.match is not None and self.match not in f"{path}?{query}":
            return False
        # Do not spend a fault in the body on a request whose answer has none.
        if self.kind in ("wrong_content_range", "multipart"):
            return method == "GET" and "range" in headers
        needs_body = self.kind in ("truncate", "drip") or self.after is not None
        return not (needs_body and method == "HEAD")

    def wrap(self, answer: ASGIApp) -> ASGIApp:
        """Return an application with this fault, around the one that answers correctly."""

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
            elif self.kind == "raw":
                await self._send_raw(scope)
                await _disconnected(receive)
            elif self.kind == "drip":
                await answer(scope, receive, _dripping(send, self.seconds))
            elif self.kind == "multipart":
                await answer(scope, receive, _as_multipart(send))
            else:
                await answer(scope, receive, _shifting(send, self.shifted))

        return faulty

    async def _send_raw(self, scope: Scope) -> None:
        connection.write(scope, base64.b64decode(self.body or ""))
        while self.repeat is not None and not self.healed.is_set():
            await asyncio.sleep(self.seconds)
            if not connection.write(scope, base64.b64decode(self.repeat)):
                return
        await connection.close(scope)

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
        # as a proxy in front of the service answers
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>\n"
        return HTMLResponse(page, self.status, headers, self.content_type)


class Faults:
    """All faults of the sandbox.

    Parameters
    ----------
    latency : float
        Seconds to wait before each answer.

    Attributes
    ----------
    latency : float
        The same, which may be changed until `heal`.
    ranges : bool
        Whether the data server honours the Range header.
    login_page : bool
        Whether the data server redirects to a login page instead of answering 401.
    denied : list of str
        Parts of URLs for which the account has no licence.
    """

    def __init__(self, latency: float) -> None:
        self._usual_latency = latency
        self._faults: list[Fault] = []
        self.heal()

    def add(self, fault: Fault) -> None:
        """Apply a fault from now on."""
        self._faults.append(fault)

    def take(
        self, server: ServerName, method: str, path: str, query: str, headers: Mapping[str, str]
    ) -> Fault | None:
        """Return the oldest fault that affects this request, and count it down."""
        for fault in self._faults:
            if fault.hits(server, method, path, query, headers):
                if fault.skip:
                    fault.skip -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def heal(self) -> None:
        """End all faults, and the requests that hang."""
        for fault in self._faults:
            fault.healed.set()
        self._faults = []
        self.latency = self._usual_latency
        self.ranges = True
        self.login_page = False
        self.denied: list[str] = []


async def _disconnected(receive: Receive) -> None:
    """Wait until the client has disconnected."""
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
        # Always announce more, or uvicorn notices that the body is too short. Send it even when empty,
        # because uvicorn holds back the headers until the first part of the body.
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
    """Move the Content-Range by one byte, and the body too if `with_body` is true."""
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
            # The last byte lies beyond the requested range. Send a zero for it.
            message = {**message, "body": body if message.get("more_body") else body + b"\0"}
        await send(message)

    return shifting


def _as_multipart(send: Send) -> Send:
    """Answer a request for one range as if it had asked for several (RFC 9110, section 14.6)."""
    boundary = b"THE-SANDBOXS-PART"
    start: Message | None = None
    content = b""

    async def wrapping(message: Message) -> None:
        nonlocal start, content
        if message["type"] == "http.response.start" and message["status"] == 206:
            start = {**message, "headers": list(message["headers"])}
            return
        if message["type"] != "http.response.body" or start is None:
            await send(message)
            return
        content += message.get("body", b"")
        if message.get("more_body"):
            return
        headers = MutableHeaders(raw=start["headers"])
        part = f"Content-Type: {headers['content-type']}\r\nContent-Range: {headers['content-range']}\r\n\r\n"
        body = b"--%b\r\n%b%b\r\n--%b--\r\n" % (boundary, part.encode(), content, boundary)
        del headers["content-range"]
        headers["content-type"] = f"multipart/byteranges; boundary={boundary.decode()}"
        headers["content-length"] = str(len(body))
        await send(start)
        await send({**message, "body": body})

    return wrapping
