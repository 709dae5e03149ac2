"""``tsread sandbox``: the local stand-in for Terrascope, to try things against."""

import shlex
import signal
import threading
from pathlib import Path

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.options import finite


@terrascope.command(short_help="Serve a local stand-in for Terrascope.")
@click.option(
    "--tile",
    "tiles",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A GeoTIFF to offer; may be repeated.  [default: four synthetic WorldCover tiles]",
)
@click.option(
    "--token-lifetime",
    type=click.FloatRange(min=0.5),
    callback=finite,
    default=300.0,
    show_default=True,
    help="Seconds that an access token lives.",
)
@click.option(
    "--latency",
    type=click.FloatRange(min=0),
    callback=finite,
    default=0.0,
    show_default=True,
    help="Seconds before each answer.",
)
def sandbox(tiles: tuple[Path, ...], token_lifetime: float, latency: float) -> None:
    """Serve a local stand-in for Terrascope until Ctrl-C.

    Prints the environment variables that lead a client to it, and the URL of a protected tile.
    Paste the lines into another terminal, and work there as with the real service:

    \b
        tsread sandbox --token-lifetime 5
    """
    from rio_terrascope.sandbox import Sandbox

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with Sandbox(tiles=tiles, token_lifetime=token_lifetime, latency=latency) as server:
        for name, value in server.environ.items():
            click.echo(f"export {name}={shlex.quote(value)}")
        for url in server.urls:
            click.echo(f"# protected tile: {url}")
        click.echo("Serving on this machine alone; Ctrl-C ends it.", err=True)
        ended.wait()
