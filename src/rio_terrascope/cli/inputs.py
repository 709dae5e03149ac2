"""The rasters that a command reads: from its arguments, or from 'tsread search' on stdin."""

import json
import re
import sys
from collections.abc import Iterable
from typing import Any

import click

from rio_terrascope.errors import with_next_step
from rio_terrascope.settings import shown


def named_rasters(arguments: Iterable[str], *, prefer_local: bool) -> list[str]:
    """Return the rasters that the arguments name, with those on stdin in place of ``-``.

    Parameters
    ----------
    arguments : iterable of str
        URLs and paths. Stdin has one per line, or is a STAC item or FeatureCollection in JSON, which
        stands for all its data assets.
    prefer_local : bool
        Whether an item may name a file on this machine.

    Raises
    ------
    click.ClickException
        If stdin names no raster, or an item names something else than a URL, or ``-`` is given twice.
    """
    arguments = list(arguments)
    if arguments.count("-") > 1:
        raise click.UsageError("'-' is given twice, but there is only one stdin.")
    rasters: list[str] = []
    for argument in arguments:
        rasters += _on_stdin(prefer_local) if argument == "-" else [argument]
    return rasters


def one_raster(argument: str, *, prefer_local: bool) -> str:
    """Return the raster that an argument names; ``-`` is stdin. For commands that take one raster.

    Raises
    ------
    click.ClickException
        If stdin names none or several.
    """
    rasters = named_rasters([argument], prefer_local=prefer_local)
    if len(rasters) != 1:
        raise click.ClickException(
            with_next_step(
                f"stdin names {len(rasters)} rasters, and this command takes one",
                "give 'tsread search' --limit 1",
            )
        )
    return rasters[0]


def _on_stdin(prefer_local: bool) -> list[str]:
    text = sys.stdin.read()
    lines = _in_json(text, prefer_local) if text.lstrip().startswith("{") else text.splitlines()
    rasters = [raster for line in lines if (raster := line.strip())]
    if not rasters:
        raise click.ClickException(
            with_next_step("stdin names no raster", "check what 'tsread search' prints")
        )
    return rasters


def _in_json(text: str, prefer_local: bool) -> list[str]:
    from rio_terrascope import stac

    try:
        found: dict[str, Any] = json.loads(text)
        items = found["features"] if found.get("type") == "FeatureCollection" else [found]
        if prefer_local:
            stac.prefer_local(items)
        assets = [asset for item in items for _name, asset in chosen_assets(item)]
        return [path_or_url(asset["href"], prefer_local=prefer_local) for asset in assets]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise click.ClickException(
            with_next_step(
                "the JSON on stdin is not a STAC item or a FeatureCollection of items",
                "pipe in the output of 'tsread search --json'",
            )
        ) from None


def chosen_assets(item: dict[str, Any], name: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Return the assets of an item that have this name; without a name, all its data assets."""
    return [
        (key, asset)
        for key, asset in item["assets"].items()
        if (key == name if name else "data" in (asset.get("roles") or ()))
    ]


def path_or_url(href: Any, *, prefer_local: bool) -> str:
    """Return what may be opened for the href of an asset: its URL, or the path of a file on this machine.

    A catalogue must not choose what is opened on this machine. GDAL opens paths, the text of a VRT, and
    much else in place of a URL.

    Raises
    ------
    click.ClickException
        If the href is not a URL with ``http://`` or ``https://`` nor, with `prefer_local`, the
        ``file://`` URL of a file on this machine.
    """
    from rio_terrascope.stac import local_path

    if isinstance(href, str):
        if prefer_local and (path := local_path(href)):
            return path
        if re.fullmatch(r"https?://[!-~]+", href):  # as in RFC 3986: no spaces, no control characters
            return href
    named = shown(str(href))
    named = ascii(named) if len(named) <= 100 else f"{named[:100]!a} ..."
    raise click.ClickException(
        with_next_step(
            f"an item of the catalogue names {named}, which is not a URL with https://",
            "add --prefer-local if it is a file:// URL that you want to be read",
        )
    )
