"""`Http2`: all requests to an origin at once, over one connection (HTTP/2, RFC 9113).

The protocol itself is in `h2`, of the python-hyper project; one thread for each connection sends and
receives. Other ways were measured. httpx, httpx2 and httpcore2, which use `h2` too, take 1.5 to 3 times the
CPU time, and requests fail or hang when the server ends the connection in order (GOAWAY), as nginx does after
1,000 requests. niquests is as fast, but brings urllib3-future, which takes the place of urllib3. obstore has
no token for each request, and tells no status.

A server that does not choose HTTP/2 in the TLS handshake (ALPN) gets HTTP/1.1, over that very connection.
"""

import copy
import ssl
import threading
from collections.abc import Iterable, Mapping

from rio_terrascope.http import Answer, NoAnswerError, new_context
from rio_terrascope.opening.look import origin_of
from rio_terrascope.reading.fetching import transport
from rio_terrascope.reading.fetching.http2_connection import Connection, Exchange
from rio_terrascope.reading.fetching.options import Options
from rio_terrascope.reading.fetching.transport import Http1
from rio_terrascope.secret import Secret

_FRUITLESS = 3  # connections that end without one answer, before a request fails


class Http2:
    """A `Transport` over one connection of HTTP/2. It has an `Http1` for a server without.

    Parameters
    ----------
    url : str
        Of the origin, with https.
    options : Options
    most : int
        The most connections of HTTP/1.1.

    Attributes
    ----------
    speaks_http1 : bool
        Whether the server has been found to be without HTTP/2.
    """

    def __init__(self, url: str, options: Options, most: int) -> None:
        self._http1 = Http1(url, options, most)
        self.speaks_http1 = False
        self._url, self._options = url, options
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._connection: Connection | None = None
        self._exchanges: dict[int, Exchange] = {}  # by the thread that waits

    @property
    def at_once(self) -> int:
        """The most requests under way together. Until the protocol is known, as many as in HTTP/1.1."""
        connection = self._connection
        if self.speaks_http1 or connection is None or not connection.is_open:
            return self._http1.at_once
        return connection.at_once

    @property
    def shares_connection(self) -> bool:
        """Whether HTTP/2 is spoken, as far as is known."""
        return not self.speaks_http1

    def get(self, url: str, headers: Mapping[str, str], access_token: Secret | None, *, limit: int) -> Answer:
        """Make one request, as `Transport.get` does."""
        thread = threading.get_ident()
        exchange = Exchange(url, headers, access_token, limit)
        self._exchanges[thread] = exchange
        fruitless = 0
        try:
            while fruitless < _FRUITLESS and not self.speaks_http1:
                connection = self._current()
                connection.ask(exchange)
                if isinstance(exchange.outcome, Answer):
                    return exchange.outcome
                if exchange.outcome is not None:
                    raise copy.copy(exchange.outcome)  # others may have the same
                fruitless += not connection.answers
                exchange = self._exchanges[thread] = exchange.again()
        finally:
            del self._exchanges[thread]
        if self.speaks_http1:
            return self._http1.get(url, headers, access_token, limit=limit)
        raise NoAnswerError("the server ends each connection without an answer", may_pass=True)

    def established(self, threads: Iterable[int]) -> tuple[int, int]:
        """Count the connections, as `Http1` does. In HTTP/2 there is always one to take a request."""
        return self._http1.established(threads) if self.speaks_http1 else (self.at_once, 0)

    def connect(self) -> None:
        """Open the connection, or one more of HTTP/1.1."""
        if not self.speaks_http1:
            self._current().known.wait(threading.TIMEOUT_MAX)
        if self.speaks_http1:
            self._http1.connect()

    def end(self, thread: int) -> None:
        """End what is under way in a thread."""
        self._http1.end(thread)
        exchange = self._exchanges.get(thread)
        if exchange is not None:
            exchange.end(NoAnswerError("it was stopped"))
            if exchange.connection is not None:
                exchange.connection.look_for_cancelled()

    def close(self) -> None:
        """End all connections."""
        self._http1.close()
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.end(NoAnswerError("it was stopped"))

    def leave_to_http1(self, connection: transport.Connection | None) -> None:
        """Make all requests by HTTP/1.1 from now on, the next over this connection."""
        if connection is not None:
            self._http1.keep(connection)
        transport.without_http2.add(origin_of(self._url))
        self.speaks_http1 = True

    def _current(self) -> "Connection":
        with self._lock:
            if self._connection is None or not self._connection.takes_more:
                self._connection = Connection(
                    self._http1.new(), self.context, self._options, self.leave_to_http1
                )
            return self._connection

    def context(self) -> ssl.SSLContext:
        """Return what the connections share of TLS. It offers HTTP/2, unlike the context of `Http1`."""
        with self._lock:
            if self._context is None:
                options = self._options
                self._context = new_context(options.bundle, checked=options.checks_certificate)
                self._context.set_alpn_protocols(["h2", "http/1.1"])
                # urllib3 would offer HTTP/1.1 alone
                self._context.set_alpn_protocols = lambda alpn_protocols: None  # type: ignore[method-assign]
            return self._context
