"""The journal: the requests that the sandbox has received, in order of arrival."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

ServerName = Literal["sso", "data", "catalogue", "other"]
"""The login server, Terrascope's data server, its catalogue, and a third party's open server."""

Authorization = Literal["none", "valid", "expired", "revoked", "invalid", "duplicate", "present"]
"""The state of the Authorization header on arrival.

Only the data server checks it. For the others it is "present" or "none".
"""

MAX_REQUESTS = 100_000
"""The limit on the requests kept, for a sandbox that runs for days."""


@dataclass(frozen=True)
class Request:
    """A request as a server of the sandbox received it.

    Attributes
    ----------
    number : int
        Counts the requests to all servers, from 1.
    time : float
        The time of arrival, in seconds since the epoch.
    server : {"sso", "data", "catalogue", "other"}
        The server that received it.
    method, path, query : str
        The parts of the request line. The path is percent-decoded.
    headers : dict
        Names are in lower case; the values of a repeated header are joined by ", ". The repr leaves them
        out, because they may hold tokens.
    range : str or None
        The Range header.
    connection : int
        The client's port, which is the same for all requests of a connection.
    authorization : str
        The state of the Authorization header when the request arrived: "none", "valid", "expired",
        "revoked", "invalid", "duplicate" or, on servers that do not check it, "present".
    grant : str or None
        The grant_type of a token request.
    username : str or None
        The user of the token, or of the token request.
    status : int or None
        The status of the answer; None if there is none, or none yet.
    sent : int
        How many bytes of the response body were sent.
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
    """The requests so far. It is used on the server's event loop only."""

    def __init__(self) -> None:
        self._requests: dict[int, Request] = {}
        self._count = 0
        self.changes = 0

    def next_number(self) -> int:
        """Return the number for a request that has just arrived."""
        self._count += 1
        return self._count

    def add(self, request: Request) -> None:
        """Record a request."""
        self._requests[request.number] = request
        self.changes += 1
        if len(self._requests) > MAX_REQUESTS:
            del self._requests[next(iter(self._requests))]

    def update(self, number: int, **changes: Any) -> None:
        """Change fields of a request, unless it has been discarded."""
        if request := self._requests.get(number):
            self._requests[number] = dataclasses.replace(request, **changes)
            self.changes += 1

    def sent(self, number: int, size: int) -> None:
        """Add to the bytes sent in answer to a request."""
        if request := self._requests.get(number):
            self.update(number, sent=request.sent + size)

    def requests(self, server: ServerName | None = None) -> list[Request]:
        """Return the requests to one server, or to all."""
        return [request for request in self._requests.values() if server in (None, request.server)]

    def take(self) -> list[Request]:
        """Return all requests and discard them."""
        requests = self.requests()
        self.clear()
        return requests

    def clear(self) -> None:
        """Discard all requests. Their numbers are not used again."""
        self._requests.clear()
        self.changes += 1
