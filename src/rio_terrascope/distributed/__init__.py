"""Read Terrascope from every worker of a Dask cluster, with the login of its client.

    client.register_plugin(TerrascopePlugin())

The client's process logs in and renews the token. It puts each new access token on a desk on the
scheduler (`TokenDesk`). A worker fetches a token there when it starts, and the next one before its
token expires. The number of requests to the token endpoint therefore does not depend on the number
of workers, and nothing but access tokens leaves the client's process.
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
