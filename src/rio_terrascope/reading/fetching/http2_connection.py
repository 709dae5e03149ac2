"""One connection of HTTP/2, and its thread."""

import _thread
import contextlib
import errno
import itertools
import logging
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hpack import HeaderTuple, NeverIndexedHeaderTuple
from hpack.struct import Header
from urllib3 import HTTPHeaderDict
from urllib3.util import parse_url

from rio_terrascope.http import Answer, NoAnswerError
from rio_terrascope.reading.fetching import transport
from rio_terrascope.reading.fetching.options import Options
from rio_terrascope.secret import Secret
from rio_terrascope.threads import Signal

_STREAMS = 100
# What a server may send before it hears of us again. The default, 64 KB, allows 13 Mbit/s at 40 ms.
_STREAM_WINDOW = 2**22
_CONNECTION_WINDOW = 2**24
_CHUNK = 2**14  # bytes to read at once: TLS has no longer records
_READS = 16  # in a row, before something is sent
_OVERTAKEN = 2 * _STREAMS  # later answers, before one that does not come is given up
_OF_THE_CONNECTION = ("connection", "host", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")

# hpack logs the bytes that it makes of a token
for _name in ("hpack.hpack", "hpack.table"):
    logging.getLogger(_name).addFilter(lambda record: False)


class Exchange:
    """One request, and what has come of its answer.

    Attributes
    ----------
    outcome : Answer, NoAnswerError or None
        None, when it is over, if it must be sent again.
    """

    def __init__(self, url: str, headers: Mapping[str, str], token: Secret | None, limit: int) -> None:
        self._request = (url, headers, token, limit)
        self.outcome: Answer | NoAnswerError | None = None
        self.over = Signal()
        self.connection: Connection | None = None
        self.was_lost = False  # with a connection, once
        self.status = 0
        self.headers = HTTPHeaderDict()
        self.chunks: list[bytes] = []
        self.size = 0
        self.started = self.heard = 0.0  # when it was sent, and when the last bytes came
        self.overtaken = 0  # how many answers the connection had had by then

    def again(self) -> "Exchange":
        """Return the same request, to be sent once more."""
        exchange = Exchange(*self._request)
        exchange.was_lost = self.was_lost
        return exchange

    def end(self, outcome: Answer | NoAnswerError | None) -> None:
        """Note the outcome, unless there is one, and let `Connection.ask` return."""
        if not self.over.is_set():
            self.outcome = outcome
            self.over.set()

    def fields(self) -> list[HeaderTuple]:
        """Return the fields that are sent. Those with a secret are not kept in the compression's tables."""
        url, headers, token, _ = self._request
        target = parse_url(url)
        fields = [
            HeaderTuple(":method", "GET"),
            HeaderTuple(":scheme", "https"),
            HeaderTuple(":authority", target._replace(auth=None).netloc or ""),
            (HeaderTuple if target.query is None else NeverIndexedHeaderTuple)(":path", target.request_uri),
        ]
        for name, value in headers.items():
            if name.lower() not in _OF_THE_CONNECTION:
                kind = HeaderTuple if type(value) is str else NeverIndexedHeaderTuple
                fields.append(kind(name.lower(), str(value).strip()))
        if token is not None:
            fields.append(NeverIndexedHeaderTuple("authorization", f"Bearer {token.reveal()}"))
        return fields

    def takes_headers(self, fields: Iterable[Header]) -> None:
        """Note the status and the headers of the answer."""
        for name, value in fields:
            if name == b":status":
                self.status = int(value)
            else:
                self.headers.add(name.decode("latin-1"), value.decode("latin-1"))

    @property
    def is_too_long(self) -> bool:
        """Whether the body is longer than wanted, or will be."""
        limit = self._request[3]
        said = self.headers.get("Content-Length", "0")
        return self.size > limit or (said.isdecimal() and int(said) > limit)

    def complete(self) -> None:
        """Make the answer of what has come."""
        url, _, _, limit = self._request
        self.end(Answer(url, self.status, self.headers, b"".join(self.chunks)[:limit]))


class _StaysOpen(h2.connection.H2ConnectionStateMachine):
    """Lets the answers go on that a GOAWAY does not concern. `h2` refuses everything after it.

    With an `h2` that ignored this class, they would be asked for again.
    """

    def process_input(self, input_: h2.connection.ConnectionInputs) -> list[h2.events.Event]:
        """Take anything but a GOAWAY as `h2` does."""
        if input_ is h2.connection.ConnectionInputs.RECV_GOAWAY:
            return []
        return super().process_input(input_)


class Connection:
    """One connection. All but `ask`, `look_for_cancelled`, `end` and `wake` happens in its thread.

    Parameters
    ----------
    wire : transport.Connection
        It is opened here.
    context : callable
        Returns what it shares of TLS with others.
    options : Options
    leave_to_http1 : callable
        Is called with the wire, if the server does not speak HTTP/2, or with None.

    Attributes
    ----------
    takes_more : bool
        Whether `ask` can be called.
    is_open : bool
        Whether the server speaks HTTP/2.
    known : Signal
        Whether it does, is known.
    answers : int
        How many have come.
    at_once : int
        How many requests the server allows.
    """

    def __init__(
        self,
        wire: transport.Connection,
        context: Callable[[], ssl.SSLContext],
        options: Options,
        leave_to_http1: Callable[[transport.Connection | None], None],
    ) -> None:
        self.takes_more = True
        self.is_open = False
        self.known = Signal()
        self.answers = 0
        self.at_once = _STREAMS
        self._wire, self._context, self._options = wire, context, options
        self._leave_to_http1 = leave_to_http1
        self._lock = threading.Lock()
        self._waiting: deque[Exchange] = deque()
        self._streams: dict[int, Exchange] = {}
        self._is_leaving = False  # after GOAWAY
        self._some_are_over = False  # though the server has not ended them
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        self._out = b""
        self._since, self._bytes = time.monotonic(), 0
        self._h2 = h2.connection.H2Connection()
        self._h2.state_machine = _StaysOpen()
        codes = h2.settings.SettingCodes
        settings = {codes.ENABLE_PUSH: 0, codes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW}
        self._h2.local_settings = h2.settings.Settings(client=True, initial_values=settings)
        _thread.start_new_thread(self._run, ())

    def ask(self, exchange: Exchange) -> None:
        """Send a request and wait until it is over."""
        with self._lock:
            if not self.takes_more:
                return
            self._waiting.append(exchange)
            exchange.connection = self
        self.wake()
        exchange.over.wait(threading.TIMEOUT_MAX)

    def wake(self) -> None:
        """Let the thread look for what there is to do."""
        with contextlib.suppress(OSError):  # it has been told, or has ended
            self._ringer.send(b"\0")

    def look_for_cancelled(self) -> None:
        """Tell the server of requests that were ended here."""
        self._some_are_over = True
        self.wake()

    def end(self, outcome: NoAnswerError) -> None:
        """End all requests at once, and the connection."""
        self._wire.end()
        self._finish(outcome)

    def _run(self) -> None:
        outcome: NoAnswerError | None = None
        lost = kept = False
        try:
            self._wire.open(context=self._context())
            connection = self._wire.wire
            # with TLS inside of TLS, as a proxy of https makes it, it is another class
            if isinstance(connection, ssl.SSLSocket) and connection.selected_alpn_protocol() == "h2":
                self.is_open = True
                self.known.set()
                with connection:
                    self._converse(connection)
            else:
                kept = True
                self._leave_to_http1(self._wire)
        except Exception as error:
            lost = self._is_leaving or (self.is_open and isinstance(error, ConnectionError | ssl.SSLError))
            outcome = _no_answer(error, self._options)
        self._finish(outcome, lost=lost)
        if not kept:
            self._wire.end()
        self._bell.close()
        self._ringer.close()

    def _finish(self, outcome: NoAnswerError | None, *, lost: bool = False) -> None:
        """End all requests; if the connection was lost, each is sent again the first time."""
        with self._lock:
            self.takes_more = False
            exchanges = [*self._streams.values(), *self._waiting]
            self._waiting.clear()
        self.is_open = False
        for exchange in exchanges:
            again = lost and (self._is_leaving or (self.answers > 0 and not exchange.was_lost))
            exchange.was_lost = lost
            exchange.end(None if again else outcome)
        self.known.set()

    def _converse(self, connection: ssl.SSLSocket) -> None:
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW - self._h2.inbound_flow_control_window)
        connection.setblocking(False)
        looked = 0.0
        waits = [s / 4 for s in (self._options.stall_seconds, self._options.whole_seconds) if s]
        look = min(1.0, *waits) if waits else None
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            selector.register(connection, selectors.EVENT_READ)
            while self.takes_more or self._streams:
                if self._some_are_over:
                    self._cancel()
                self._send_waiting()
                self._send(connection)
                selector.modify(connection, selectors.EVENT_READ | (selectors.EVENT_WRITE * bool(self._out)))
                is_busy = bool(self._streams or self._waiting)
                ready = [key.fileobj for key, _ in selector.select(look if is_busy else None)]
                if self._bell in ready:
                    self._bell.recv(_CHUNK)
                if connection in ready:
                    self._receive(connection)
                now = time.monotonic()
                if not is_busy:
                    self._since, self._bytes = now, 0
                elif look and now - looked >= look:
                    looked = now
                    self._look_for_stalls(now)

    def _cancel(self) -> None:
        """Let the server stop what was ended here."""
        self._some_are_over = False
        for stream, exchange in list(self._streams.items()):
            if exchange.over.is_set():
                del self._streams[stream]
                self._h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)

    def _send_waiting(self) -> None:
        self.at_once = min(_STREAMS, self._h2.remote_settings.max_concurrent_streams)
        while len(self._streams) < self.at_once and self.takes_more:
            with self._lock:
                if not self._waiting:
                    return
                exchange = self._waiting.popleft()
                if exchange.over.is_set():
                    continue
                stream = self._h2.get_next_available_stream_id()
                self._streams[stream] = exchange
            exchange.started = exchange.heard = time.monotonic()
            exchange.overtaken = self.answers
            self._h2.send_headers(stream, exchange.fields(), end_stream=True)

    def _send(self, connection: ssl.SSLSocket) -> None:
        self._out += self._h2.data_to_send()
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self._out:
                self._out = self._out[connection.send(self._out) :]

    def _receive(self, connection: ssl.SSLSocket) -> None:
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            for count in itertools.count(1):
                data = connection.recv(_CHUNK)
                if not data:
                    raise ConnectionResetError(errno.ECONNRESET, "closed by the server")
                self._bytes += len(data)
                for event in self._h2.receive_data(data):
                    self._take(event)
                # what TLS has read ahead, the selector does not tell
                if count >= _READS and not connection.pending():
                    return

    def _take(self, event: h2.events.Event) -> None:
        stream = getattr(event, "stream_id", None) or 0
        exchange = self._streams.get(stream)
        match event:
            case h2.events.ResponseReceived() if exchange:
                exchange.takes_headers(event.headers)
            case h2.events.DataReceived():
                self._h2.acknowledge_received_data(event.flow_controlled_length, stream)
                if exchange:
                    exchange.chunks.append(event.data)
                    exchange.size += len(event.data)
            case h2.events.StreamEnded() if exchange:
                self._end_stream(stream)
                exchange.complete()
                return
            case h2.events.StreamReset() if exchange:
                self._end_stream(stream)
                self._take_reset(exchange, event.error_code)
                return
            case h2.events.ConnectionTerminated():
                self._take_leave(event.last_stream_id or 0)
        if exchange:
            exchange.heard, exchange.overtaken = time.monotonic(), self.answers
            if exchange.is_too_long:
                exchange.complete()
                self._some_are_over = True

    def _end_stream(self, stream: int) -> None:
        self.answers += 1
        del self._streams[stream]

    def _take_reset(self, exchange: Exchange, code: int) -> None:
        if code == h2.errors.ErrorCodes.HTTP_1_1_REQUIRED:
            self._leave_to_http1(None)
            exchange.end(None)
            self._take_leave(2**31)
        elif code == h2.errors.ErrorCodes.REFUSED_STREAM and not exchange.was_lost:
            # too many at once, as the server had not said yet
            exchange.was_lost = True
            self._waiting.append(exchange)
        else:
            name = getattr(code, "name", code)
            exchange.end(NoAnswerError(f"the server has ended the answer ({name})", may_pass=True))

    def _take_leave(self, last: int) -> None:
        with self._lock:
            self.takes_more, self._is_leaving = False, True
            unheard = [*(e for s, e in self._streams.items() if s > last), *self._waiting]
            self._streams = {s: e for s, e in self._streams.items() if s <= last}
            self._waiting.clear()
        for exchange in unheard:
            exchange.end(None)

    def _look_for_stalls(self, now: float) -> None:
        options = self._options
        stall = options.stall_seconds
        if stall and now - self._since > stall:
            if self._bytes < max(1.0, options.slow * (now - self._since)):
                raise TimeoutError
            self._since, self._bytes = now, 0
        for exchange in self._streams.values():
            # one that is slow because many share the connection is not given up
            waits = self.answers - exchange.overtaken > _OVERTAKEN and stall and now - exchange.heard > stall
            if waits or (options.whole_seconds and now - exchange.started > options.whole_seconds):
                exchange.end(NoAnswerError("no answer in time", may_pass=True))
                self._some_are_over = True


def _no_answer(error: Exception, options: Options) -> NoAnswerError:
    if isinstance(error, h2.exceptions.ProtocolError):
        name = type(error).__name__
        return NoAnswerError(f"the answer cannot be understood ({name})", may_pass=True)
    return transport.no_answer(error, options)
