"""`Http1`: requests over connections of HTTP/1.1, one at a time on each."""

import contextlib
import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote

from urllib3 import HTTPHeaderDict
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as SlowError
from urllib3.util import make_headers, parse_url

from rio_terrascope import certificates
from rio_terrascope.http import Answer, NoAnswerError, new_connection, new_context, proxy_headers
from rio_terrascope.reading.fetching.options import Options
from rio_terrascope.secret import Secret

without_http2: set[tuple[str, str, int]] = set()  # origins that have been asked for it

IDLE_SECONDS = 10.0  # after that, a connection that nobody uses is closed
_DRAINED = 64 * 1024  # bytes of an unwanted body that are read, to keep the connection


class Transport(Protocol):
    """Requests to one origin. All methods may be called from any thread.

    Attributes
    ----------
    at_once : int
        The most requests under way together: connections for HTTP/1.1, streams for HTTP/2.
    shares_connection : bool
        Whether all requests go over one connection.
    """

    @property
    def at_once(self) -> int:
        """See above."""

    @property
    def shares_connection(self) -> bool:
        """See above."""

    def get(self, url: str, headers: Mapping[str, str], access_token: Secret | None, *, limit: int) -> Answer:
        """Make one request and wait for its answer. No redirect is followed.

        Parameters
        ----------
        url : str
        headers : mapping of str to str
            A value may be a `SecretText`.
        access_token : Secret or None
            Sent as ``Authorization: Bearer ...``.
        limit : int
            How many bytes of the body are wanted. A longer one is not read.

        Raises
        ------
        NoAnswerError
            If there is no complete answer.
        """

    def established(self, threads: Iterable[int]) -> tuple[int, int]:
        """Count the connections that are free, and the established ones that these threads use."""

    def connect(self) -> None:
        """Open one more connection, if that is allowed. Errors are ignored."""

    def end(self, thread: int) -> None:
        """End the `get` or `connect` under way in a thread. It raises NoAnswerError."""

    def close(self) -> None:
        """End all connections at once. What is under way ends with NoAnswerError."""


class Http1:
    """A `Transport` over urllib3's connections."""

    shares_connection = False

    def __init__(self, url: str, options: Options, at_once: int) -> None:
        self.at_once = at_once
        self._url = url
        self._options = options
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._free: list[Connection] = []  # the one used last at the end
        self._used: dict[int, Connection] = {}  # by the thread that uses it

    def get(self, url: str, headers: Mapping[str, str], access_token: Secret | None, *, limit: int) -> Answer:
        """Make one request, as `Transport.get` does."""
        while True:
            connection = self._take()
            fault: NoAnswerError | None = None
            try:
                answer = connection.get(url, headers, access_token, limit)
            except Exception as error:
                if not connection.was_closed_meanwhile(error):
                    fault = no_answer(error, self._options)
            except BaseException:
                self._put_back(connection, reusable=False)
                raise
            else:
                self._put_back(connection, crowded=answer.status in (429, 503))
                return answer
            self._put_back(connection, reusable=False)
            # outside of the block, or the error would hold urllib3's, whose frames hold the token
            if fault is not None:
                raise fault

    def established(self, threads: Iterable[int]) -> tuple[int, int]:
        """Count the connections that are free, and the established ones that these threads use."""
        with self._lock:
            used = [self._used[thread] for thread in threads if thread in self._used]
            return len(self._free), sum(connection.is_open for connection in used)

    def connect(self) -> None:
        """Open one more connection, unless there are as many as are allowed."""
        with self._lock:
            if len(self._free) + len(self._used) >= self.at_once:
                return
        connection = self._take(new=True)
        try:
            connection.open()
        except Exception:
            self._put_back(connection, reusable=False)
        else:
            self._put_back(connection)

    def end(self, thread: int) -> None:
        """End what is under way in a thread."""
        with self._lock:
            connection = self._used.get(thread)
        if connection is not None:
            connection.end()

    def close(self) -> None:
        """End all connections."""
        with self._lock:
            connections = [*self._free, *self._used.values()]
            self._free.clear()
        for connection in connections:
            connection.end()

    def new(self) -> "Connection":
        """Return a new connection, which `Connection.open` opens."""
        return Connection(self)

    def keep(self, connection: "Connection") -> None:
        """Use a connection for the next request."""
        connection.since = time.monotonic()
        with self._lock:
            self._free.append(connection)

    def _take(self, *, new: bool = False) -> "Connection":
        """Return a free connection, else a new one."""
        with self._lock:
            connection = self._free.pop() if self._free and not new else Connection(self)
            self._used[threading.get_ident()] = connection
        return connection

    def _put_back(self, connection: "Connection", *, reusable: bool = True, crowded: bool = False) -> None:
        """Keep a connection for the next request if it can be used again.

        If the server has too many, this one and those that nobody uses are closed: it may count them.
        """
        now = time.monotonic()
        with self._lock:
            del self._used[threading.get_ident()]
            old = [one for one in self._free if crowded or now - one.since > IDLE_SECONDS]
            self._free = [one for one in self._free if one not in old]
            if reusable and not crowded and connection.is_open:
                connection.since = now
                self._free.append(connection)
            else:
                old.append(connection)
        for one in old:
            one.end()

    def context(self) -> ssl.SSLContext:
        """Return what all connections share of TLS."""
        with self._lock:
            if self._context is None:
                self._context = new_context(self._options.bundle, checked=self._options.checks_certificate)
            return self._context


class Connection:
    """One connection of HTTP/1.1, which another thread can end.

    Attributes
    ----------
    since : float
        When it was used last, on the monotonic clock.
    """

    def __init__(self, transport: Http1) -> None:
        self._transport = transport
        self._options = transport._options
        self._http: HTTPConnection | None = None
        self._requests = 0
        self._answered = False
        self._lock = threading.Lock()
        self._ended = False
        self._duplicate: socket.socket | None = None
        self.since = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it can be used for another request."""
        return self._http is not None and not self._http.is_closed and not self._ended

    @property
    def wire(self) -> object:
        """What it sends and receives with, while it is open."""
        return self._http and self._http.sock

    def open(self, pace: "_Pace | None" = None, *, context: ssl.SSLContext | None = None) -> None:
        """Connect. A proxy's answer has to keep the pace.

        Parameters
        ----------
        pace : _Pace, optional
        context : ssl.SSLContext, optional
            Instead of the one that all share.
        """
        url, options = self._transport._url, self._options
        secure = url.startswith("https:") or (options.proxy is not None)
        self._http = new_connection(
            url,
            context or (self._transport.context() if secure else None),
            proxy=options.proxy,
            seconds=options.connect_seconds,
            connected=self._connected,
        )
        self._http.response_class = (pace or _Pace(options)).response  # type: ignore[assignment]
        self._http.connect()
        # urllib3 uses `timeout` for each wait of the answer
        waits = [seconds for seconds in (options.stall_seconds, options.whole_seconds) if seconds]
        self._http.timeout = min(waits, default=None)
        self._http.sock.settimeout(self._http.timeout)

    def _connected(self, connection: socket.socket) -> None:
        """Note the new socket, so that `end` can shut it down."""
        with self._lock:
            if self._ended:
                connection.close()
                raise TimeoutError
            # a duplicate, since TLS takes the socket's descriptor away; shutting down holds for both
            self._duplicate = connection.dup()

    def end(self) -> None:
        """Close it. What is under way in another thread fails, and closes the rest."""
        with self._lock:
            self._ended = True
            if self._duplicate is not None:
                with contextlib.suppress(OSError):  # it is closed already
                    self._duplicate.shutdown(socket.SHUT_RDWR)
                self._duplicate.close()
                self._duplicate = None

    def was_closed_meanwhile(self, error: Exception) -> bool:
        """Tell whether the server has closed a connection that was used before, so that no answer came."""
        cause = certificates.innermost(error)
        return (
            self._requests > 1
            and not self._answered
            and not self._ended
            and isinstance(cause, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
        )

    def get(self, url: str, headers: Mapping[str, str], access_token: Secret | None, limit: int) -> Answer:
        """Make a request. If it raises, the connection cannot be used again."""
        self._requests += 1
        self._answered = False
        try:
            pace = _Pace(self._options)
            if self._http is None:
                self.open(pace)
            opened = self._http
            if opened is None or (self._requests > 1 and not opened.is_connected):
                raise ConnectionResetError
            opened.response_class = pace.response  # type: ignore[assignment]
            forwarding = opened.proxy_is_forwarding
            opened.request(
                "GET",
                _target(url, whole=forwarding),
                headers=_revealed(url, headers, access_token, self._options.proxy if forwarding else None),
                preload_content=False,
            )
            # http.client's own response, which reads into memory that is there
            response = http.client.HTTPConnection.getresponse(opened)
            self._answered = pace.has_header = True
            body = self._body(response, limit)
            return Answer(url, response.status, HTTPHeaderDict(response.headers.items()), body)
        except BaseException:
            if self._http is not None:
                self._http.close()
            raise

    def _body(self, response: http.client.HTTPResponse, limit: int) -> Any:
        """Read the body if it is wanted and short enough. Otherwise the connection ends."""
        wanted = response.status in (200, 206)
        size = response.length
        most = limit if wanted else _DRAINED
        body: Any
        if size is None:
            body = response.read(most + 1)
            if len(body) > most:
                self.end()
                body = body[:most]
        elif size > most:
            self.end()
            body = b""
        else:
            body = memoryview(bytearray(size))  # read at once into its place
            if response.readinto(body) != size:
                raise http.client.IncompleteRead(b"", size)
        response.close()
        if response.will_close:
            self.end()
        return body


class _Pace:
    """Ends an answer that comes too slowly, or ends within its header.

    Attributes
    ----------
    has_header : bool
        Whether the header has come.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self.has_header = False
        self._start = self._since = time.monotonic()
        self._bytes = 0

    def response(self, sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        """Make http.client's response, which then reads through `readinto`."""
        response = http.client.HTTPResponse(sock, *args, **kwargs)
        response.fp = io.BufferedReader(_Paced(sock, response.fp, self), 64 * 1024)
        return response

    def count(self, size: int) -> None:
        """Note bytes that have come.

        Raises
        ------
        TimeoutError
            If too few have.
        ConnectionResetError
            If the connection has ended within the header. http.client would take what came for the whole.
        """
        if size == 0 and not self.has_header:
            raise ConnectionResetError
        now, options = time.monotonic(), self._options
        self._bytes += size
        if options.whole_seconds and now - self._start > options.whole_seconds:
            raise TimeoutError
        if options.stall_seconds and now - self._since > options.stall_seconds:
            if self._bytes < options.slow * (now - self._since):
                raise TimeoutError
            self._since, self._bytes = now, 0


class _Paced(io.RawIOBase):
    """The reading side of a socket, with a pace."""

    def __init__(self, sock: Any, file: Any, pace: _Pace) -> None:
        self._sock, self._file, self._pace = sock, file, pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size: int = self._sock.recv_into(buffer)
        self._pace.count(size)
        return size

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _target(url: str, *, whole: bool) -> str:
    """Return a URL as a request names it, with percent-encoded characters."""
    parts = parse_url(url)
    return parts._replace(auth=None, fragment=None).url if whole else parts.request_uri


def _revealed(
    url: str, headers: Mapping[str, str], access_token: Secret | None, proxy: Secret | None
) -> dict[str, str]:
    """Return the headers that are sent."""
    sent = {name: str(value) for name, value in headers.items()} | proxy_headers(proxy)
    if user := parse_url(url).auth:
        sent |= make_headers(basic_auth=unquote(user))
    if access_token is not None:
        sent["Authorization"] = f"Bearer {access_token.reveal()}"
    return sent


def no_answer(error: Exception, options: Options) -> NoAnswerError:
    """Say why there was no answer, in words that hold nothing of the request."""
    if isinstance(error, NoAnswerError):
        return error
    cause = certificates.innermost(error)
    name = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
    if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return NoAnswerError(f"the TLS connection failed ({name})", may_pass=True)
    if isinstance(cause, TimeoutError | SlowError):
        return NoAnswerError("no answer in time", may_pass=True)
    if isinstance(cause, ssl.SSLError | FileNotFoundError | PermissionError):
        what, advice = certificates.why_refused(error, options.bundle)
        return NoAnswerError(what, advice=advice)
    if isinstance(cause, OSError | http.client.IncompleteRead | HTTPError):
        return NoAnswerError(f"the connection failed ({name})", may_pass=True)
    if isinstance(cause, ValueError):  # a header or a host name that cannot be sent
        return NoAnswerError(f"the request could not be made ({name})")
    return NoAnswerError(f"the answer cannot be understood ({name})")
