"""The server process: four HTTP servers on one event loop, controlled by the parent process."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import uvicorn

from .app import App, Site
from .catalogue import CatalogueSite
from .connection import Connection
from .data import DataSite, Files, OpenSite
from .faults import Fault, Faults
from .identity import CLIENT_ID, Identity
from .journal import Journal, ServerName
from .paths import SYNTHETIC_TILES, offered_paths, worldcover_path
from .scenes import SCENES, Scene
from .sso import LOGIN_PATH, REALM, TOKEN_PATH, SsoSite

Command = Callable[..., Any]


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone, because four servers cannot all handle them."""
        yield


def _listen(host: str) -> socket.socket:
    # It listens before any client knows the port, so that early clients wait in the backlog.
    return socket.create_server((host, 0), backlog=1024)


def _origin(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def _make_tile(year: int, name: str, folder: Callable[[], Path]) -> str:
    """Make a synthetic tile and return its path."""
    # Importing rasterio takes time, and the servers themselves do not need it.
    from .tile import write_tile

    file = folder() / Path(worldcover_path(year, name)).name
    write_tile(file, year=year, name=name)
    return str(file)


def _make_scene(scene: Scene, folder: Callable[[], Path]) -> str:
    """Make a scene's file and return its path."""
    from .ndvi import write_scene

    file = folder() / Path(scene.url_path).name
    write_scene(file, scene)
    return str(file)


async def serve(config: Mapping[str, Any], replies: BinaryIO) -> None:
    """Serve until standard input ends, which it does when the parent process ends.

    Parameters
    ----------
    config : mapping
        The parameters of `Sandbox`.
    replies : binary file
        Receives the ready message and the replies to the parent's commands: JSON, one a line.
    """
    # uvicorn warns about every malformed request, but only tracebacks should reach the terminal.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    with contextlib.ExitStack() as cleanup:
        listeners: dict[ServerName, socket.socket] = {
            "sso": _listen(config["host"]),
            "data": _listen(config["host"]),
            "catalogue": _listen(config["host"]),
            "other": _listen(config["host"]),
        }
        origins = {name: _origin(listener) for name, listener in listeners.items()}

        @functools.cache  # made when first needed, because a process that is killed leaves it behind
        def folder() -> Path:
            workdir = tempfile.TemporaryDirectory(prefix="terrascope-sandbox-", ignore_cleanup_errors=True)
            return Path(cleanup.enter_context(workdir))

        # Allocating GDAL's default cache, 5 % of the memory, takes more time than the cache saves here.
        os.environ.setdefault("GDAL_CACHEMAX", "64")
        journal = Journal()
        faults = Faults(config["latency"])
        files = Files()
        for url_path, file in offered_paths(config["tiles"]).items():
            files.add(url_path, file)
        if not config["tiles"]:
            for year, name in SYNTHETIC_TILES:
                files.add_deferred(
                    worldcover_path(year, name), functools.partial(_make_tile, year, name, folder)
                )
        tiles = files.paths()
        for url_path, scene in SCENES.items():
            files.add_deferred(url_path, functools.partial(_make_scene, scene, folder))
        identity = Identity(
            origins["sso"] + REALM,
            config["accounts"],
            token_lifetime=config["token_lifetime"],
            refresh_lifetime=config["refresh_lifetime"],
            rotate=config["rotate"],
        )
        sso = SsoSite(origins["sso"], identity)
        sites: dict[ServerName, Site] = {
            "sso": sso,
            "data": DataSite(files, identity, faults, origins, origins["sso"] + LOGIN_PATH),
            "catalogue": CatalogueSite(
                origins["catalogue"], origins["data"], identity.issuer, files, config["archive"]
            ),
            "other": OpenSite(files, origins),
        }
        tasks = [
            asyncio.create_task(
                _Server(
                    uvicorn.Config(
                        App(name, sites[name], journal, faults),
                        http=Connection,
                        ws="none",
                        lifespan="off",
                        log_config=None,
                        access_log=False,
                        server_header=False,
                        timeout_keep_alive=120,
                    )
                ).serve(sockets=[listeners[name]])
            )
            for name in listeners
        ]
        ready = {
            "origins": origins,
            "token_url": origins["sso"] + TOKEN_PATH,
            "client_id": CLIENT_ID,
            "tiles": tiles,
        }
        _reply(replies, ready)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tasks[0].cancel)
        control = asyncio.create_task(
            _run_commands(_commands(journal, faults, identity, sso, files), replies)
        )
        await asyncio.wait([control, *tasks], return_when=asyncio.FIRST_COMPLETED)
    # Exit at once. Otherwise uvicorn answers each request in progress with 500, and logs it.
    os._exit(0)


def _commands(
    journal: Journal, faults: Faults, identity: Identity, sso: SsoSite, files: Files
) -> dict[str, Command]:
    """Return the commands that the parent can send, by name."""

    def heal() -> None:
        faults.heal()
        sso.heal()
        identity.restore_accounts()

    return {
        "requests": lambda server: [vars(request) for request in journal.requests(server)],
        "take": lambda: [vars(request) for request in journal.take()],
        "changes": lambda: journal.changes,
        "clear": journal.clear,
        "add_file": files.add,
        "file": files.local_async,
        "fault": lambda **fault: faults.add(Fault(**fault)),
        "set": lambda name, value: setattr(faults, name, value),
        "deny": lambda match: faults.denied.append(match),
        "heal": heal,
        "token_answer": sso.replace_answers,
        "echo": sso.echo,
        "end_tokens": identity.end_tokens,
        "end_sessions": identity.end_sessions,
        "set_password": identity.set_password,
        "disable": identity.disable,
        "require_action": identity.require_action,
    }


async def _run_commands(commands: Mapping[str, Command], replies: BinaryIO) -> None:
    """Run the parent's commands, JSON, one a line, until standard input ends."""
    # The limit is high because a replaced body may be long; the parent is trusted.
    lines = asyncio.StreamReader(limit=2**30)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer)
    while line := await lines.readline():
        request = json.loads(line)
        try:
            value = commands[request["command"]](**request["arguments"])
            if inspect.isawaitable(value):
                value = await value
        except Exception as error:
            _reply(replies, {"id": request["id"], "error": f"{type(error).__name__}: {error}"})
        else:
            _reply(replies, {"id": request["id"], "value": value})


def _reply(replies: BinaryIO, message: object) -> None:
    replies.write(json.dumps(message).encode() + b"\n")
    replies.flush()
