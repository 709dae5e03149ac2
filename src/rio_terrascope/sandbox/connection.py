"""The connection under a request: what a fault needs to end it the hard way."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import MutableMapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, which also shows its transport to the application.

    ASGI has no way to break a connection. The transport goes into the connection's own copy of the
    state that ASGI hands to every request.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the transport for the requests to come."""
        # asyncio overlooks sockets made with protocol 0, as socket.create_server does. With Nagle's
        # algorithm, headers and body in two packets cost 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


def _transport(scope: MutableMapping[str, Any]) -> asyncio.Transport:
    transport: asyncio.Transport = scope["state"]["transport"]
    return transport


async def reset(scope: MutableMapping[str, Any]) -> None:
    """Break the connection with a TCP RST, after what was written so far has left."""
    transport = _transport(scope)
    while transport.get_write_buffer_size() and not transport.is_closing():
        await asyncio.sleep(0.001)
    connection = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        # Lingering for 0 seconds is what makes the kernel send RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def close(scope: MutableMapping[str, Any]) -> None:
    """End the connection in order (FIN), after what was written so far has left."""
    _transport(scope).close()
