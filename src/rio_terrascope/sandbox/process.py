"""The server process, seen from the process that starts it."""

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
    """Starts the server process and sends it commands.

    Both directions are one JSON a line, over the process's stdin and stdout. When its stdin ends, because
    of `stop` or because this process has died, the server process ends too.

    Parameters
    ----------
    config : mapping
        Goes over stdin as well: arguments and the environment can be read by others on the machine.

    Attributes
    ----------
    ready : dict
        What the server process said when it was ready.

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
        # -P: a tokens.py in the working directory is not to be taken for a library's.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __package__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            # Unbuffered: what a forked child inherits must not be written a second time.
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
        """Send a command and return what it answers."""
        if os.getpid() != self._owner:
            raise RuntimeError("Only the process that started the sandbox can control it")
        with self._lock:
            number = next(self._ids)
            self._send({"id": number, "command": command, "arguments": arguments})
            # An earlier call may have been interrupted (Ctrl-C) and have left its reply behind.
            while (reply := self._receive())["id"] != number:
                pass
        if "error" in reply:
            raise ValueError(reply["error"])
        return reply["value"]

    def stop(self) -> None:
        """End the server process; in a forked child, do nothing."""
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

        With a copy of them open in a child, the server process would outlive its parent.
        """
        self._commands.close()
        self._replies.raw.close()

    def _send(self, message: object) -> None:
        line = memoryview(json.dumps(message).encode() + b"\n")
        try:
            while line:
                line = line[self._commands.write(line) :]
        except BrokenPipeError:
            pass  # The process has ended; reading its last words says why.

    def _receive(self) -> dict[str, Any]:
        line = self._replies.readline()
        reply: dict[str, Any] = json.loads(line) if line else {}
        if "missing" in reply:
            raise ImportError(f"The sandbox needs the library {reply['missing']!r}: {INSTALL}")
        if not reply or ("error" in reply and "id" not in reply):
            raise RuntimeError(f"The sandbox's server process has ended. {reply.get('error', '')}".rstrip())
        return reply


def _environment() -> dict[str, str]:
    # The same copy of the package, however this process found it. And the stand-in has no use for the
    # account of the real service.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TERRASCOPE_")}
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    return environment


def _after_fork() -> None:
    for process in list(_running):
        process.close_pipes()


os.register_at_fork(after_in_child=_after_fork)
