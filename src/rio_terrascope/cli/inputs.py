"""The rasters that a command reads: from its arguments, or from 'tsread search' on stdin."""

import json
import sys
from collections.abc import Iterable
from typing import Any

import click

from rio_terrascope.errors import with_next_step


def named_rasters(arguments: Iterable[str]) -> list[str]:
    """Return the rasters that the arguments name, with those on stdin in place of ``-``.

    Parameters
    ----------
    arguments : iterable of str
        URLs and paths. Stdin has one per line, or is a STAC item or FeatureCollection in JSON, which
        stands for all its data assets.

    Raises
    ------
    click.ClickException
        If stdin names no raster, or ``-`` is given twice.
    """
    arguments = list(arguments)
    if arguments.count("-") > 1:
        raise click.UsageError("'-' is given twice, but there is only one stdin.")
    rasters: list[str] = []
    for argument in arguments:
        rasters += _on_stdin() if argument == "-" else [argument]
    return rasters


def one_raster(argument: str) -> str:
    """Return the raster that an argument names; ``-`` is stdin. For commands that take one raster.

    Raises
    ------
    click.ClickException
        If stdin names none or several.
    """
    rasters = named_rasters([argument])
    if len(rasters) != 1:
        raise click.ClickException(
            with_next_step(
                f"stdin names {len(rasters)} rasters, and this command takes one",
                "give 'tsread search' --limit 1",
            )
        )
    return rasters[0]


def _on_stdin() -> list[str]:
    text = sys.stdin.read()
    lines = _in_json(text) if text.lstrip().startswith("{") else text.splitlines()
    rasters = [raster for line in lines if (raster := line.strip())]
    if not rasters:
        raise click.ClickException(
            with_next_step("stdin names no raster", "check what 'tsread search' prints")
        )
    return rasters


def _in_json(text: str) -> list[str]:
    try:
        found: dict[str, Any] = json.loads(text)
        items = found["features"] if found.get("type") == "FeatureCollection" else [found]
        return [path_or_url(asset["href"]) for item in items for _name, asset in chosen_assets(item)]
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


def path_or_url(href: str) -> str:
    """Return the path of a file on this machine for its URL, and any other URL unchanged."""
    from rio_terrascope.stac import local_path

    return local_path(href) or href
