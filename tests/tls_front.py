"""Adds TLS to a server without it: accepts TLS connections and forwards their contents.

``python tls_front.py CERTIFICATE PORT...`` prints the TLS port for each port. It is a process of its
own, because GDAL holds the interpreter's lock during requests.
"""

import asyncio
import contextlib
import ssl
import subprocess
import sys


async def pump(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main(certificate, *ports):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    for port in ports:

        async def serve(reader, writer, port=port):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

        front = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        print(front.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the parent ends


@contextlib.contextmanager
def tls_front(certificate, origin):
    """Put TLS in front of a server, and yield its origin there."""
    command = [sys.executable, __file__, certificate, origin.rpartition(":")[2]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield f"https://127.0.0.1:{process.stdout.readline().strip()}"
        process.stdin.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
