"""Count the token requests of Dask clusters of several sizes, and print the table for README.

Run this from the repository's root::

    python tests/benchmarks/cluster.py
"""

import logging
import tempfile
import time
from pathlib import Path

import rasterio
from distributed import Client, LocalCluster, wait
from rasterio.windows import Window

from rio_terrascope import Settings
from rio_terrascope.distributed import TerrascopePlugin
from rio_terrascope.sandbox import Sandbox
from rio_terrascope.sandbox.tile import write_tile

LIFETIME = 4.0  # seconds, instead of Terrascope's 300
SECONDS = 24.0
USER, PASSWORD = "measured", "not-a-secret"


def read(url: str, number: int) -> float:
    """Read a window of a URL that is new to GDAL."""
    with rasterio.open(f"{url}?{number}") as src:
        return float(src.read(1, window=Window(9000, 17000, 256, 256)).mean())


def measure(server: Sandbox, workers: int) -> str:
    """Read with a cluster for `SECONDS`, and return a row of the table."""
    settings = Settings.from_environ(server.environ)
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        server.clear()
        plugin = TerrascopePlugin(USER, PASSWORD, settings=settings)
        client.register_plugin(plugin)
        began = time.monotonic()
        tasks = 0
        while time.monotonic() - began < SECONDS:
            urls = [server.url()] * 4 * workers
            futures = client.map(read, urls, range(tasks, tasks + len(urls)), pure=False)
            wait(futures, timeout=60)
            client.gather(futures)  # raises the exception of a task that failed
            tasks += len(urls)
        minutes = (time.monotonic() - began) / 60
        token_requests = server.requests("sso")
        refused = sum(request.status == 401 for request in server.requests("data"))
        client.unregister_worker_plugin(plugin.name)
        plugin.close()
    logins = sum(request.grant == "password" for request in token_requests)
    renewals = len(token_requests) - logins
    return f"| {workers} | {tasks:,} | {refused} | {logins} | {renewals / minutes:.0f} |"


def main() -> None:
    """Measure clusters of 1, 4 and 8 workers."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        tile = Path(folder) / "ESA_WorldCover_10m_2020_v100_N00E006_Map.tif"
        write_tile(tile, year=2020)
        with Sandbox(tiles=[tile], accounts={USER: PASSWORD}, token_lifetime=LIFETIME) as server:
            print("| workers | tasks | refused reads | logins | renewals per minute |")
            print("| --- | --- | --- | --- | --- |")
            for workers in (1, 4, 8):
                print(measure(server, workers), flush=True)


if __name__ == "__main__":
    main()
