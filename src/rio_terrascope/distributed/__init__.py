"""One login for a Dask cluster: the client holds it, every worker reads with it.

    client.register_plugin(TerrascopePlugin())

The way of a token: the client's process logs in and renews, as any does. Each new access token
goes to a desk on the scheduler (`TokenDesk`), and from there to the workers, each of which asks
for the next one when its own nears its end, and waits until it is there. A worker that joins or
restarts later asks as it starts. So the number of requests to the token endpoint does not depend
on the number of workers, and nothing but access tokens leaves the client's process.
"""

from rio_terrascope.errors import install_advice, with_next_step

try:
    import distributed  # noqa: F401 - checked here, once, for the modules below
except ImportError as error:
    raise ImportError(
        with_next_step(
            f"reading on a Dask cluster needs Dask's 'distributed' ({error})",
            f"{install_advice('dask')}; for the client, the scheduler and the workers",
        )
    ) from None

from rio_terrascope.distributed.desk import TokenDesk
from rio_terrascope.distributed.plugin import TerrascopePlugin

__all__ = ["TerrascopePlugin", "TokenDesk"]
