"""A local stand-in for Terrascope, to try, teach and test with.

Four HTTP servers on the loopback interface, in a process of their own: a token endpoint, a data server
under /download/ that demands a valid token, an open catalogue (STAC), and an open server that stands for
somebody else's. They note every request, and misbehave when told to.

    from rio_terrascope.sandbox import Sandbox

    with Sandbox() as sandbox:
        os.environ.update(sandbox.environ)
        ...

The servers need the extra: ``pip install "rio-terrascope[sandbox]"``. Importing this module does not.
"""

from .journal import Request
from .sandbox import Sandbox

__all__ = ["Request", "Sandbox"]
