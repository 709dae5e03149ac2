"""Entry point of the server process. `Sandbox` starts it and talks to it over stdin and stdout."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import traceback


def main() -> None:
    """Read the configuration, and serve until the parent process ends."""
    if sys.stdin.isatty():
        sys.exit("This is the sandbox's server process. To run a sandbox by hand: tsread sandbox")
    # Ctrl-C signals every process of the terminal, but only the parent ends the sandbox.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Standard output is for the replies. Anything else that is printed goes to standard error.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    line = sys.stdin.buffer.readline()
    if not line:
        return

    try:
        from .server import serve

        asyncio.run(serve(json.loads(line), replies))
    except ModuleNotFoundError as error:
        last_words = {"missing": error.name or str(error)}
    except Exception:
        last_words = {"error": traceback.format_exc()}
    else:
        return
    with contextlib.suppress(OSError):
        replies.write(json.dumps(last_words).encode() + b"\n")
        replies.flush()


main()
