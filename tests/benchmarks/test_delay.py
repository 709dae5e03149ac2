"""The delay proxy takes as long as TCP would. The time in most of these tests is simulated."""

import asyncio
import math
import selectors
import socket
import threading
import time

import pytest

from benchmarks.delay import FIRST_WINDOW, PROFILES, DelayProxy, End, Link, Pump

SIZE = 2_000_000


class SimulatedTime(asyncio.SelectorEventLoop):
    """A loop without sockets. It never waits: its clock jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(selectors.SelectSelector())
        wait = self._selector.select
        self._selector.select = lambda timeout=None: self._skip(timeout) or wait(0)

    def _skip(self, timeout):
        self.now += timeout or 0

    def time(self):
        return self.now


class Sink:
    """A transport that notes when the last byte came."""

    def write(self, data):
        self.last = asyncio.get_running_loop().time()

    def close(self):
        pass

    pause_reading = resume_reading = close


def simulate(name, connections, size):
    """Return the seconds until connections have passed on `size` bytes each, sent at once."""
    profile = PROFILES[name]

    async def run():
        link, sinks, pumps = Link(profile.bandwidth), [], []
        for _ in range(connections):
            source, target = End(), End()
            source.transport, target.transport = Sink(), Sink()
            source.data_received(bytes(size))
            source.connection_lost(None)
            sinks.append(target.transport)
            pumps.append(Pump(source, target, profile, link).run())
        assert await asyncio.gather(*pumps) == [size] * connections
        return max(sink.last for sink in sinks)

    with asyncio.Runner(loop_factory=SimulatedTime) as runner:
        return runner.run(run())


def computed(name, connections, size):
    """Return the same by hand: a window a round trip until the link is full, then its bandwidth."""
    profile = PROFILES[name]
    seconds, window, left = profile.round_trip / 2, FIRST_WINDOW, size
    while (
        profile.slow_start and left > window and connections * window < profile.bandwidth * profile.round_trip
    ):
        seconds, window, left = seconds + profile.round_trip, 2 * window, left - window
    return seconds + (0 if profile.bandwidth == math.inf else connections * left / profile.bandwidth)


@pytest.mark.parametrize("connections", [1, 16])
@pytest.mark.parametrize("size", [10_000, 100_000, SIZE, 10 * SIZE])
@pytest.mark.parametrize("name", ["home", "campus", "delay"])
def test_transfers_take_the_computed_time(name, size, connections):
    ratio = simulate(name, connections, size) / computed(name, connections, size)
    assert ratio == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("connections", [1, 16])
def test_sockets_take_no_less_than_the_computed_time(connections):
    """A busy machine makes it slower, and nothing makes it faster."""

    def answer(listener):
        for _ in range(connections):
            threading.Thread(target=send, args=(listener.accept()[0],)).start()

    def send(connection):
        with connection:
            connection.recv(1)
            connection.sendall(bytes(SIZE // connections))

    def fetch(port):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"?")
            while connection.recv(2**20):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,)).start()
        with DelayProxy(listener.getsockname()[1], "home") as proxy:
            clients = [threading.Thread(target=fetch, args=(proxy.port,)) for _ in range(connections)]
            began = time.monotonic()
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            seconds = time.monotonic() - began
            assert proxy.counts() == {"connections": connections, "bytes": SIZE}
    # 1.5 round trips before the server sends: connecting, and half of one for the request
    limit = 1.5 * PROFILES["home"].round_trip + computed("home", connections, SIZE // connections)
    assert 0.9 < seconds / limit < 4


def test_connections_beyond_the_limit_go_elsewhere():
    def serve(listener, answer):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.sendall(answer)
            kept.append(connection)

    kept = []
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    for listener, answer in zip(listeners, (b"in", b"no"), strict=True):
        threading.Thread(target=serve, args=(listener, answer), daemon=True).start()
    ports = [listener.getsockname()[1] for listener in listeners]
    with DelayProxy(ports[0], "loopback", 2, ports[1]) as proxy:
        clients = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(3)]
        answers = sorted(client.recv(2) for client in clients)
        for each in clients + kept + listeners:
            each.close()
    assert answers == [b"in", b"in", b"no"]
