"""`DelayProxy`: a TCP proxy that makes a local server as slow as a distant one, as a `Profile` says.

Each direction takes half a round trip. What the server sends shares one link: the connections take turns, a
few packets each. With slow start a connection begins with 10 packets in flight, and each acknowledged byte
allows two more, so this window doubles in each round trip until the link is full. The first bytes of a
connection wait for one round trip more, which stands for connecting: the proxy itself is connected at once.
Nothing is lost, and a connection that idled does not start slowly again.
"""

import asyncio
import collections
import json
import math
import subprocess
import sys
from dataclasses import dataclass

FIRST_WINDOW = 10 * 1460  # bytes in flight (RFC 6928)
HELD = 2**20  # bytes that are read ahead of the link
AHEAD = 0.002  # seconds; how far the link is booked ahead, so that a timer that is late leaves no gap
TICK = 0.001  # seconds; the resolution of asyncio's timers, which are rounded up


@dataclass(frozen=True)
class Profile:
    """A link: its round trip in seconds, its bandwidth in bytes a second, and whether TCP starts slowly."""

    round_trip: float = 0.0
    bandwidth: float = math.inf
    slow_start: bool = False

    @property
    def window(self) -> int:
        """The most bytes in flight on a connection: what Linux allows by default, or no limit in practice."""
        return 2**22 if self.slow_start else 2**28


PROFILES = {
    "home": Profile(0.040, 100e6 / 8, slow_start=True),
    "campus": Profile(0.015, 1e9 / 8, slow_start=True),
    "delay": Profile(0.040),
    "loopback": Profile(),
}


class DelayProxy:
    """A context manager that runs the proxy in a process of its own.

    Parameters
    ----------
    target : int
        The port on 127.0.0.1 to forward to.
    profile : str
        A name in `PROFILES`.
    limit, beyond : int, optional
        How many connections may be open at once. Those beyond go to the port `beyond` instead.
    """

    def __init__(self, target: int, profile: str, limit: int = 10**6, beyond: int = 0) -> None:
        self._arguments = [str(target), profile, str(limit), str(beyond)]

    def __enter__(self) -> "DelayProxy":
        command = [sys.executable, __file__, *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def counts(self) -> dict[str, int]:
        """Return the connections made, and the bytes from the server, since the last call.

        Waits until all connections are closed.
        """
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Link:
    """The link that all connections share, towards the client."""

    def __init__(self, bandwidth: float) -> None:
        self._bandwidth = bandwidth
        self._free_at = 0.0
        self._turn = asyncio.Lock()  # first come, first served
        self.most = max(FIRST_WINDOW, bandwidth * TICK)  # bytes in a turn

    async def send(self, size: int, ready: float) -> float:
        """Book the link for bytes that are ready at a time, and return the time when they have passed it."""
        if self._bandwidth == math.inf:
            return ready
        async with self._turn:
            await until(self._free_at - AHEAD)
            self._free_at = max(self._free_at, ready) + size / self._bandwidth
            return self._free_at


class End(asyncio.Protocol):
    """One end of a connection. What it received waits here, with the times."""

    def __init__(self) -> None:
        self._arrived: collections.deque[tuple[float, memoryview]] = collections.deque()
        self._held = 0
        self._news, self.writable, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._arrived.append((asyncio.get_running_loop().time(), memoryview(data)))
        self._held += len(data)
        self._news.set()
        if self._held > HELD:
            self.transport.pause_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set()
        self._news.set()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    async def arrival(self) -> float | None:
        """Wait for data, and return the time when it arrived, or None at the end."""
        while not self._arrived:
            if self.closed.is_set():
                return None
            self._news.clear()
            await self._news.wait()
        return self._arrived[0][0]

    def take(self, most: int) -> memoryview:
        """Return at most so many bytes of what arrived."""
        time, data = self._arrived.popleft()
        if len(data) > most:
            self._arrived.appendleft((time, data[most:]))
            data = data[:most]
        self._held -= len(data)
        if self._held <= HELD and not self.closed.is_set():
            self.transport.resume_reading()
        return data


class Pump:
    """Passes on what one end receives to the other: one direction of a connection."""

    def __init__(self, source: End, target: End, profile: Profile, link: Link) -> None:
        self._source, self._target, self._profile, self._link = source, target, profile, link
        self._window = FIRST_WINDOW if profile.slow_start else profile.window
        self._in_flight = 0
        self._sent: asyncio.Queue = asyncio.Queue()
        self._acknowledged: collections.deque[tuple[float, int]] = collections.deque()
        self._news = asyncio.Event()

    async def run(self, not_before: float = 0.0) -> int:
        """Pass on all, and return the number of bytes. Times are those of the link, not of late timers."""
        delivery = asyncio.create_task(self._deliver())
        ready, total = not_before, 0
        while (arrival := await self._source.arrival()) is not None:
            ready = await self._room(max(ready, arrival))
            await until(ready)
            data = self._source.take(int(min(self._link.most, self._window - self._in_flight, 2**18)))
            self._in_flight += len(data)
            total += len(data)
            self._sent.put_nowait((await self._link.send(len(data), ready), data))
        self._sent.put_nowait(None)
        await delivery
        return total

    async def _room(self, ready: float) -> float:
        """Wait until another byte may be in flight, and return the time when it may be sent."""
        while self._in_flight >= self._window or (self._acknowledged and self._acknowledged[0][0] <= ready):
            if not self._acknowledged:
                self._news.clear()
                await self._news.wait()
            time, size = self._acknowledged.popleft()
            self._in_flight -= size
            self._window = min(self._window + size, self._profile.window)
            ready = max(ready, time)
        return ready

    async def _deliver(self) -> None:
        half = self._profile.round_trip / 2
        while (item := await self._sent.get()) is not None:
            passed, data = item
            await until(passed + half)
            if not self._target.writable.is_set():
                await self._target.writable.wait()  # a slow reader stops a fast sender, as TCP would
                passed = asyncio.get_running_loop().time() - half
            self._target.transport.write(data)
            self._acknowledged.append((passed + 2 * half, len(data)))
            self._news.set()
        self._target.transport.close()


async def until(time: float) -> None:
    """Sleep until a time, half a tick early or late."""
    if (wait := time - asyncio.get_running_loop().time() - TICK / 2) > 0:
        await asyncio.sleep(wait)


async def main(target: int, profile: Profile, limit: int, beyond: int) -> None:
    """Forward until stdin ends."""
    counts: collections.Counter[str] = collections.Counter()
    loop = asyncio.get_running_loop()
    up, down = Link(math.inf), Link(profile.bandwidth)
    quick = Profile(profile.round_trip)  # requests are short
    under_way: set[asyncio.Task] = set()

    async def forward(client: End) -> None:
        counts["connections"] += 1
        connected = loop.time() + profile.round_trip
        await until(connected - profile.round_trip / 2)  # now the server sees it
        admitted = counts["admitted"] < limit
        counts["admitted"] += admitted
        port = target if admitted else beyond
        _, server = await loop.create_connection(End, "127.0.0.1", port)
        _, size = await asyncio.gather(
            Pump(client, server, quick, up).run(connected), Pump(server, client, profile, down).run()
        )
        counts["bytes"] += size
        counts["admitted"] -= admitted

    class Client(End):
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            task = loop.create_task(forward(self))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

    server = await loop.create_server(Client, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while await commands.readline():
        await asyncio.gather(*under_way)
        print(
            json.dumps({"connections": counts.pop("connections", 0), "bytes": counts.pop("bytes", 0)}),
            flush=True,
        )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), PROFILES[sys.argv[2]], *map(int, sys.argv[3:5])))
