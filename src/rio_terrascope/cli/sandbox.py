"""``tsread sandbox``: serve a local stand-in for Terrascope."""

import shlex
import signal
import threading
from pathlib import Path

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.options import Option, finite


def _seconds_option(name: str, *, least: float, default: float, help: str) -> Option:
    kind = click.FloatRange(min=least)
    return click.option(name, type=kind, callback=finite, default=default, show_default=True, help=help)


@terrascope.command(short_help="Serve a local stand-in for Terrascope.")
@click.option(
    "--tile",
    "tiles",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="GeoTIFF to serve; may be repeated.  [default: four synthetic WorldCover tiles]",
)
@_seconds_option("--token-lifetime", least=0.5, default=300.0, help="Seconds that a token lives.")
@_seconds_option("--latency", least=0, default=0.0, help="Seconds before each answer.")
def sandbox(tiles: tuple[Path, ...], token_lifetime: float, latency: float) -> None:
    """Serve a local stand-in for Terrascope until Ctrl-C.

    Prints the environment variables that point clients to the stand-in, and the URLs of its tiles.
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
        click.echo("Serving on this machine only; stop with Ctrl-C.", err=True)
        ended.wait()
