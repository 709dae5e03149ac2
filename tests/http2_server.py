"""A server of HTTP/2 that obeys a test, for what no sane server does."""

import contextlib
import re
import socket
import ssl
import threading
from collections import namedtuple

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamReset, WindowUpdated
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

Request = namedtuple("Request", "connection number stream path headers fields first last")


class Http2Server:
    """Answers each request as a function says.

    Parameters
    ----------
    answer : callable
        Takes a `Link` and a `Request`, in the thread of the connection.
    certificate : trustme.LeafCert
    protocols : sequence of str
        Which it chooses from (ALPN). Connections of HTTP/1.1 are served too, without `answer`.
    streams : int, optional
        The most that it allows at a time.
    """

    def __init__(self, answer, certificate, *, content=b"", protocols=("h2", "http/1.1"), streams=None):
        self.answer = answer
        self.content = content
        self.streams = streams
        self.requests = []
        self.resets = []  # (stream, code) of those that the client has ended
        self.connections = 0
        self.open = 0
        self.most = 0  # streams that were open at a time
        self.goes_on = threading.Event()  # with HTTP/1.1
        self.goes_on.set()
        self.changed = threading.Condition()
        self.links = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self._context)
        self._context.set_alpn_protocols(list(protocols))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}/a.tif"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *args):
        self._listener.close()
        for link in self.links:
            link.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with self.changed:
                    self.connections += 1
                    number = self.connections
                threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection, number):
        with contextlib.suppress(OSError, ProtocolError), connection:
            connection = self._context.wrap_socket(connection, server_side=True)
            self.change(open=self.open + 1)
            try:
                if connection.selected_alpn_protocol() == "h2":
                    link = Link(self, connection, number)
                    self.links.append(link)
                    link.serve()
                else:
                    self._serve_http1(connection, number)
            finally:
                connection.close()
                self.change(open=self.open - 1)

    def _serve_http1(self, connection, number):
        with connection.makefile("rb") as lines:
            while line := lines.readline():
                path, headers = line.split()[1].decode(), {}
                while (line := lines.readline()) not in (b"\r\n", b""):
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                request = self.note(number, 0, path, headers, [])
                self.goes_on.wait(30)
                body = self.content[request.first : request.last + 1]
                span = f"bytes {request.first}-{request.last}/{len(self.content)}"
                head = f"HTTP/1.1 206 -\r\nContent-Range: {span}\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)

    def note(self, connection, stream, path, headers, fields):
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        end = len(self.content) - 1
        first, last = (int(span[1]), min(int(span[2]), end)) if span else (0, end)
        with self.changed:
            request = Request(connection, len(self.requests) + 1, stream, path, headers, fields, first, last)
            self.requests.append(request)
            self.changed.notify_all()
        return request

    def change(self, **values):
        with self.changed:
            vars(self).update(values)
            self.changed.notify_all()

    def wait_until(self, condition, timeout=20):
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), timeout), "what was waited for did not come"


class Link:
    """One connection. `h2` is the protocol's state; call `flush` after changing it."""

    def __init__(self, server, connection, number):
        self.server, self.number = server, number
        self._connection = connection
        self._lock = threading.RLock()
        self._unsent = {}  # by stream
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.requests = 0

    def serve(self):
        with self._lock:
            self.h2.initiate_connection()
            if self.server.streams is not None:
                self.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self.server.streams})
            self.flush()
        while data := self._connection.recv(65536):
            with self._lock:
                for event in self.h2.receive_data(data):
                    self._take(event)
                self._send_bodies()

    def _take(self, event):
        if isinstance(event, RequestReceived):
            self.requests += 1
            headers = dict(event.headers)
            with self.server.changed:
                self.server.most = max(self.server.most, self.h2.open_inbound_streams)
            path = headers[":path"]
            request = self.server.note(self.number, event.stream_id, path, headers, event.headers)
            self.server.answer(self, request)
        elif isinstance(event, StreamReset):
            self._unsent.pop(event.stream_id, None)
            self.server.change(resets=[*self.server.resets, (event.stream_id, event.error_code)])
        elif isinstance(event, WindowUpdated):
            self._send_bodies()

    def part(self, request, *, status=206, body=None, ends=True, **headers):
        """Send the right answer, or one with other headers. An underscore stands for a hyphen."""
        body = self.server.content[request.first : request.last + 1] if body is None else body
        span = f"bytes {request.first}-{request.last}/{len(self.server.content)}"
        usual = {"content_range": span, "content_length": str(len(body))} | headers
        fields = [(name.replace("_", "-"), value) for name, value in usual.items() if value is not None]
        with self._lock:
            self.h2.send_headers(request.stream, [(":status", str(status)), *fields])
            self._unsent[request.stream] = (memoryview(body), ends)
            self._send_bodies()

    def _send_bodies(self):
        for stream, (body, ends) in list(self._unsent.items()):
            while body and (room := min(self.h2.local_flow_control_window(stream), 16384)) > 0:
                self.h2.send_data(stream, bytes(body[:room]))
                body = body[room:]
            self._unsent[stream] = (body, ends)
            if not body:
                del self._unsent[stream]
                if ends:
                    self.h2.end_stream(stream)
        self.flush()

    def leave(self, last, code=ErrorCodes.NO_ERROR):
        """Send GOAWAY. What was asked for on streams up to `last` is answered nevertheless."""
        with self._lock:
            self.flush()
            # h2 lets a connection end with it
            state = self.h2.state_machine.state
            self.h2.close_connection(code, last_stream_id=last)
            self.h2.state_machine.state = state
            self.flush()

    def reset(self, stream, code):
        with self._lock:
            self.h2.reset_stream(stream, code)
            self.flush()

    def flush(self):
        self._connection.sendall(self.h2.data_to_send())

    def send(self, data):
        """Send raw bytes."""
        with self._lock:
            self._connection.sendall(data)

    def close(self):
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
