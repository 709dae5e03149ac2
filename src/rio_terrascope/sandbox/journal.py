"""The journal: every request that the sandbox has received, in the order of arrival."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

ServerName = Literal["sso", "data", "catalogue", "other"]
"""The token endpoint, Terrascope's data, its catalogue, and somebody else's open server."""

Authorization = Literal["none", "valid", "expired", "revoked", "invalid", "duplicate", "present"]
"""What the Authorization header was worth on arrival.

The data server judges it. The others only say whether there was one ("present") or not ("none").
"""

MAX_REQUESTS = 100_000
"""Requests kept, so that a sandbox left running for days does not grow without end."""


@dataclass(frozen=True)
class Request:
    """One request as a server of the sandbox received it.

    Attributes
    ----------
    number : int
        Counts up over all servers, from 1.
    time : float
        When it arrived, in seconds since the epoch.
    server : {"sso", "data", "catalogue", "other"}
        Which server received it.
    method, path, query : str
        The request line, the path percent-decoded.
    headers : dict
        Names in lower case; a repeated header's values are joined by ", ". Not part of the repr: they may
        hold tokens.
    range : str or None
        The Range header.
    connection : int
        The client's port: equal for requests that share a connection.
    authorization : str
        What the Authorization header was worth when the request arrived.
    grant : str or None
        The grant_type of a token request.
    username : str or None
        Whose token or token request it was.
    status : int or None
        The answer's status; None while under way, or if there was none.
    sent : int
        Body bytes of the answer.
    """

    number: int
    time: float
    server: ServerName
    method: str
    path: str
    query: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    range: str | None
    connection: int
    authorization: Authorization
    grant: str | None = None
    username: str | None = None
    status: int | None = None
    sent: int = 0


class Journal:
    """The requests so far; it lives in the server process, on its event loop."""

    def __init__(self) -> None:
        self._requests: dict[int, Request] = {}
        self._count = 0
        self.changes = 0

    def next_number(self) -> int:
        """Return the number for a request that has just arrived."""
        self._count += 1
        return self._count

    def add(self, request: Request) -> None:
        """Note a request."""
        self._requests[request.number] = request
        self.changes += 1
        if len(self._requests) > MAX_REQUESTS:
            del self._requests[next(iter(self._requests))]

    def update(self, number: int, **changes: Any) -> None:
        """Change fields of a request, unless it has been forgotten meanwhile."""
        if request := self._requests.get(number):
            self._requests[number] = dataclasses.replace(request, **changes)
            self.changes += 1

    def sent(self, number: int, size: int) -> None:
        """Add body bytes to a request."""
        if request := self._requests.get(number):
            self.update(number, sent=request.sent + size)

    def requests(self, server: ServerName | None = None) -> list[Request]:
        """Return the requests, optionally those of one server."""
        return [request for request in self._requests.values() if server in (None, request.server)]

    def take(self) -> list[Request]:
        """Return all requests, and forget them."""
        requests = self.requests()
        self.clear()
        return requests

    def clear(self) -> None:
        """Forget all requests; the numbers count on."""
        self._requests.clear()
        self.changes += 1
