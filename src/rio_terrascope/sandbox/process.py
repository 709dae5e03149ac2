"""Starts the server process and sends it commands."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

INSTALL = "pip install 'rio-terrascope[sandbox]', or '.[sandbox]' in a clone"

_running: weakref.WeakSet[ServerProcess] = weakref.WeakSet()


class ServerProcess:
    """The server process, seen from its parent.

    Commands and replies are JSON, one a line, over the server's stdin and stdout. The server process ends
    when its stdin does: after `stop`, or when this process has died.

    Parameters
    ----------
    config : mapping
        What to serve. It is sent over stdin, because others on the machine can read a process's arguments
        and environment.

    Attributes
    ----------
    ready : dict
        The server's first message: its URLs and tiles.

    Raises
    ------
    ImportError
        If a library that the servers need is not installed.
    RuntimeError
        If the server process does not start.
    """

    def __init__(self, config: Mapping[str, object]) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        # -P: a module in the working directory must not hide one of a library.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __package__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            # Unbuffered, because a forked child would write its copy of the buffer once more.
            bufsize=0,
        )
        self._commands = cast(io.FileIO, self._process.stdin)
        self._replies = io.BufferedReader(cast(io.FileIO, self._process.stdout))
        _running.add(self)
        try:
            self._send(config)
            self.ready = self._receive()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def call(self, command: str, **arguments: object) -> Any:
        """Send a command and return its result."""
        if os.getpid() != self._owner:
            raise RuntimeError("Only the process that started the sandbox can control it")
        with self._lock:
            number = next(self._ids)
            self._send({"id": number, "command": command, "arguments": arguments})
            # A call that was interrupted (Ctrl-C) leaves its reply behind: skip it.
            while (reply := self._receive())["id"] != number:
                pass
        if "error" in reply:
            raise ValueError(reply["error"])
        return reply["value"]

    def stop(self) -> None:
        """End the server process. Do nothing in a forked child."""
        if os.getpid() != self._owner:
            return
        _running.discard(self)
        self._commands.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._replies.close()

    def close_pipes(self) -> None:
        """Close this process's ends of the pipes, in a forked child.

        The server process would outlive its parent if a child kept them open.
        """
        self._commands.close()
        self._replies.raw.close()

    def _send(self, message: object) -> None:
        line = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while line:
                line = line[self._commands.write(line) :]
        except BrokenPipeError:
            pass  # The process has ended; its last message, read next, says why.

    def _receive(self) -> dict[str, Any]:
        line = self._replies.readline()
        reply: dict[str, Any] = json.loads(line) if line else {}
        if "missing" in reply:
            raise ImportError(f"The sandbox needs the library {reply['missing']!r}: {INSTALL}")
        if not reply or ("error" in reply and "id" not in reply):
            raise RuntimeError(f"The sandbox's server process has ended. {reply.get('error', '')}".rstrip())
        return reply


def _environment() -> dict[str, str]:
    # PYTHONPATH leads to this copy of the package, however it was found. The servers do not need the
    # user's real account.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TERRASCOPE_")}
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    return environment


def _after_fork() -> None:
    for process in list(_running):
        process.close_pipes()


os.register_at_fork(after_in_child=_after_fork)
