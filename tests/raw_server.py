"""A server of plain sockets, for answers that no sane server gives."""

import contextlib
import re
import socket
import threading
import time
from collections import namedtuple

Request = namedtuple("Request", "connection path headers first last")


class RawServer:
    """Answers each request with what a function returns, or lets the function write to the socket.

    Parameters
    ----------
    answer : callable
        Takes a `Request` and the socket. It returns the bytes to send, or None to close the connection.
    """

    def __init__(self, answer, content=b""):
        self.answer = answer
        self.content = content
        self.requests = []
        self.connections = 0
        self.open = 0
        self.changed = threading.Condition()
        self.ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/a.tif"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *args):
        self.ended.set()
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with self.changed:
                    self.connections += 1
                    self.open += 1
                    self.changed.notify_all()
                arguments = (connection, self.connections)
                threading.Thread(target=self._serve, args=arguments, daemon=True).start()

    def _serve(self, connection, number):
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            while line := lines.readline():
                path = line.split()[1].decode()
                headers = {}
                while (line := lines.readline()) not in (b"\r\n", b""):
                    name, _, value = line.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                span = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
                first, last = (int(span[1]), int(span[2])) if span else (0, len(self.content) - 1)
                request = Request(number, path, headers, first, last)
                with self.changed:
                    self.requests.append(request)
                    self.changed.notify_all()
                said = self.answer(request, connection)
                if said is None:
                    break
                connection.sendall(said)
        with self.changed:
            self.open -= 1
            self.changed.notify_all()

    def wait_until(self, condition, timeout=20):
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self), timeout), "what was waited for did not come"

    def part(self, request, **headers):
        """Return the right answer, with more headers or other ones. A header that is None is left out."""
        last = min(request.last, len(self.content) - 1)
        body = headers.pop("body", self.content[request.first : last + 1])
        usual = {
            "Content-Length": len(body),
            "Content-Range": f"bytes {request.first}-{last}/{len(self.content)}",
        }
        return response(headers.pop("status", 206), body, **usual | headers)


def response(status, body=b"", **headers):
    """Return an answer as bytes. An underscore in a header's name stands for a hyphen."""
    headers = {"Content-Length": len(body)} | {n.replace("_", "-"): v for n, v in headers.items()}
    lines = [f"{name}: {value}\r\n" for name, value in headers.items() if value is not None]
    return f"HTTP/1.1 {status} So\r\n{''.join(lines)}\r\n".encode("latin-1") + body


def trickle(connection, data, seconds, ended):
    """Send bytes one by one, until the other side has closed the connection."""
    with contextlib.suppress(OSError):
        for byte in data:
            connection.sendall(bytes([byte]))
            if ended.wait(seconds):
                return


def unused_port():
    """Return a port on which connections are refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def deaf():
    """Yield the URL of a server that does not even accept connections: its queue of them is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        filling = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(server.getsockname())
            filling.append(one)
        time.sleep(0.05)
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a.tif"
        for one in filling:
            one.close()
