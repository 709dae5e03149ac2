"""The connection of a request, so that a fault can break it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import MutableMapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, with the transport exposed to the application.

    ASGI has no means to break a connection. The transport is therefore passed in the state that ASGI
    gives to every request; each connection has its own copy.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Pass the transport to the requests of this connection."""
        # asyncio does not do this for sockets with protocol 0, which socket.create_server makes. With
        # Nagle's algorithm, sending headers and body separately takes 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


def _transport(scope: MutableMapping[str, Any]) -> asyncio.Transport:
    transport: asyncio.Transport = scope["state"]["transport"]
    return transport


async def reset(scope: MutableMapping[str, Any]) -> None:
    """Break the connection with a TCP RST, once everything written so far has been sent."""
    transport = _transport(scope)
    while transport.get_write_buffer_size() and not transport.is_closing():
        await asyncio.sleep(0.001)
    connection = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        # With a linger time of 0 seconds, the kernel sends RST instead of FIN.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def write(scope: MutableMapping[str, Any], data: bytes) -> bool:
    """Send bytes past HTTP. Return False if the connection is closed."""
    transport = _transport(scope)
    if transport.is_closing():
        return False
    transport.write(data)
    return True


async def close(scope: MutableMapping[str, Any]) -> None:
    """Close the connection in the regular way (FIN), once everything written so far has been sent."""
    _transport(scope).close()
