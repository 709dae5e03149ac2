"""`DelayProxy`: a TCP proxy that makes a local server as slow as a distant one."""

import asyncio
import collections
import json
import subprocess
import sys


class DelayProxy:
    """A context manager that runs the proxy in a process of its own.

    Each direction takes half a round trip. The first bytes of a connection take one round trip more, which
    stands for connecting: a connection to the proxy itself takes no time.

    Parameters
    ----------
    target : int
        The port on 127.0.0.1 to forward to.
    round_trip : float
        In seconds.
    """

    def __init__(self, target: int, round_trip: float) -> None:
        self._arguments = [str(target), str(round_trip)]

    def __enter__(self) -> "DelayProxy":
        command = [sys.executable, __file__, *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def counts(self) -> dict[str, int]:
        """Return the number of connections, and of bytes from the server, since the last call."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


async def main(target: int, round_trip: float) -> None:
    counts = collections.Counter(connections=0, bytes=0)
    loop = asyncio.get_running_loop()

    async def pump(reader, writer, first_wait: float, name: str | None) -> None:
        # bounded, so that a slow reader stops a fast sender as TCP would
        queue: asyncio.Queue = asyncio.Queue(1024)

        async def deliver() -> None:
            while (item := await queue.get()) is not None:
                due, data = item
                if (wait := due - loop.time()) > 0:
                    await asyncio.sleep(wait)
                writer.write(data)
                await writer.drain()

        delivery = asyncio.create_task(deliver())
        start = loop.time() + first_wait
        try:
            while data := await reader.read(2**18):
                if name:
                    counts[name] += len(data)
                await queue.put((max(loop.time(), start) + round_trip / 2, data))
        except OSError:
            pass
        await queue.put(None)
        try:
            await delivery
            writer.close()
        except OSError:
            pass

    async def connected(reader, writer) -> None:
        counts["connections"] += 1
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", target, limit=2**20)
        await asyncio.gather(
            pump(reader, server_writer, round_trip, None), pump(server_reader, writer, 0, "bytes")
        )

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**20, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while await commands.readline():
        print(json.dumps(counts), flush=True)
        counts["connections"] = counts["bytes"] = 0


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
