"""The application that all servers share: it records requests and applies faults."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .faults import Faults
from .journal import Authorization, Journal, Request, ServerName


@dataclass(frozen=True)
class IncomingRequest:
    """A request that has arrived."""

    scope: Scope
    body: bytes

    @property
    def method(self) -> str:
        """The method, in capitals."""
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        return str(self.scope["path"])

    @property
    def query(self) -> str:
        """The query string, without its question mark."""
        return self.scope["query_string"].decode("latin-1")  # type: ignore[no-any-return]

    @cached_property
    def headers(self) -> Headers:
        """The headers, by case-insensitive names."""
        return Headers(scope=self.scope)

    @property
    def authorizations(self) -> list[str]:
        """The values of all Authorization headers."""
        return self.headers.getlist("authorization")


@dataclass(frozen=True)
class Credentials:
    """What a server knows about the credentials in a request; the journal records it."""

    authorization: Authorization
    grant: str | None = None
    username: str | None = None


class Site(Protocol):
    """The part of a server that differs from the others."""

    def inspect(self, incoming: IncomingRequest) -> Credentials:
        """Describe a request's credentials. By default: whether there is an Authorization header."""
        return Credentials("present" if incoming.authorizations else "none")

    def answer(self, incoming: IncomingRequest, credentials: Credentials) -> ASGIApp:
        """Answer one request."""


class App:
    """One server, as an ASGI application: journal, latency and faults around the answers of a site.

    Parameters
    ----------
    name : {"sso", "data", "catalogue", "other"}
        The name of this server.
    site : Site
        Answers the requests.
    journal : Journal
        Records the requests.
    faults : Faults
        The faults to apply.
    """

    def __init__(self, name: ServerName, site: Site, journal: Journal, faults: Faults) -> None:
        self._name = name
        self._site = site
        self._journal = journal
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        # Read the body first, so that the journal has the grant of a token request even if a fault
        # replaces the answer.
        body = await _read_body(receive) if scope["method"] in ("POST", "PUT", "PATCH") else b""
        incoming = IncomingRequest(scope, body)
        credentials = self._site.inspect(incoming)
        number = self._record(incoming, credentials)
        send = self._recording_answer(number, incoming.method, send)

        if self._faults.latency:
            await asyncio.sleep(self._faults.latency)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await self._site.answer(incoming, credentials)(scope, receive, send)

        fault = self._faults.take(
            self._name, incoming.method, incoming.path, incoming.query, incoming.headers
        )
        await (fault.wrap(answer) if fault else answer)(scope, receive, send)

    def _record(self, incoming: IncomingRequest, credentials: Credentials) -> int:
        headers: dict[str, str] = {}
        for name, value in incoming.headers.items():
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        number = self._journal.next_number()
        self._journal.add(
            Request(
                number=number,
                time=time.time(),
                server=self._name,
                method=incoming.method,
                path=incoming.path,
                query=incoming.query,
                headers=headers,
                range=headers.get("range"),
                connection=incoming.scope["client"][1],
                authorization=credentials.authorization,
                grant=credentials.grant,
                username=credentials.username,
            )
        )
        return number

    def _recording_answer(self, number: int, method: str, send: Send) -> Send:
        """Wrap `send` so that the journal has the answer before the client does."""

        async def recording(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._journal.update(number, status=message["status"])
            elif method != "HEAD" and message.get("body"):
                self._journal.sent(number, len(message["body"]))
            await send(message)

        return recording


async def _read_body(receive: Receive) -> bytes:
    chunks = []
    while (message := await receive())["type"] == "http.request":
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    return b"".join(chunks)
