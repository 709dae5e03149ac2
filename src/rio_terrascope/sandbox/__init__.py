"""A local stand-in for Terrascope, for tests, courses and experiments.

Four HTTP servers listen on the loopback interface, in a separate process: a token endpoint, a data server
that demands a valid token, an open catalogue (STAC), and an open server that plays a third party. They
record every request, and misbehave on command.

    from rio_terrascope.sandbox import Sandbox

    with Sandbox() as sandbox:
        os.environ.update(sandbox.environ)
        ...

The servers need an extra: ``pip install "rio-terrascope[sandbox]"``. Importing this module does not.
"""

from .journal import Request
from .sandbox import Sandbox

__all__ = ["Request", "Sandbox"]
