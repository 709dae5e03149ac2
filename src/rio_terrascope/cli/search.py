"""``tsread search``: find files in the catalogue."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.inputs import chosen_assets, path_or_url
from rio_terrascope.cli.options import Box, bbox_option, json_option
from rio_terrascope.cli.output import say, show
from rio_terrascope.errors import with_next_step

PAGE = 100  # items per request
LIMIT = 1000


def _when(_ctx: click.Context, _param: click.Parameter, when: str | None) -> str | None:
    """Refuse a time that cannot be parsed, before the catalogue is asked."""
    if when is None:
        return None
    try:
        from pystac_client import ItemSearch
    except ImportError:
        return when  # opening the catalogue will raise, with what to install
    try:
        asked = ItemSearch("", datetime=when).get_parameters()["datetime"]
        moments = [datetime.fromisoformat(moment.upper()) for moment in asked.split("/") if moment != ".."]
    except Exception as error:  # pystac-client has no exception class for this
        raise click.BadParameter(f"{when!r} cannot be read ({error}).") from None
    if moments != sorted(moments):
        raise click.BadParameter(f"{when!r} ends before it begins.")
    return when


@terrascope.command(short_help="Find files in the catalogue.")
@click.argument("collection")
@bbox_option(
    help="Items that meet the box: west south east north, in degrees.", world=True, may_be_empty=True
)
@click.option(
    "--datetime",
    "when",
    metavar="WHEN",
    callback=_when,
    help="A time, day, month or year, or a range of them: 2021-04/2021-06, ../2020 (until then).",
)
@click.option("--asset", "asset_name", metavar="NAME", help="Asset to print.  [default: all data assets]")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help=f"Maximum number of items.  [default: {LIMIT}]"
)
@click.option("--prefer-local", is_flag=True, help="Print the paths of files that are on this machine.")
@click.option("--table", "as_table", is_flag=True, help="Print id, time, asset, size and href in columns.")
@json_option
def search(
    collection: str,
    bbox: Box | None,
    when: str | None,
    asset_name: str | None,
    limit: int | None,
    prefer_local: bool,
    as_table: bool,
    as_json: bool,
) -> None:
    """Find files in the catalogue and print their URLs, one per line; with --json print the STAC items.

    Needs the [stac] extra, but no login. Pass the URLs to 'tsread read', 'stats' or 'preview' as
    arguments, or pipe the output into them, with '-' in place of the URL.

    \b
        tsread search esa-worldcover-map-10m-2021-v2 --bbox 6.4 0 7.5 1.8
        tsread search terrascope-s2-ndvi-v2 --bbox 4.4 50.9 4.5 51 --datetime 2021-06 --table
        tsread search terrascope-s2-ndvi-v2 --datetime 2021-06-14 --limit 1 | tsread preview - -o ndvi.png
    """
    if as_table and as_json:
        raise click.UsageError("give --table or --json, not both.")
    if asset_name is not None and as_json:
        raise click.UsageError("--asset cannot go with --json, which prints whole items.")
    items, more = _found(collection, bbox, when, limit or LIMIT)
    if prefer_local:
        from rio_terrascope import stac

        stac.prefer_local(items)
    if as_json:
        click.echo(json.dumps({"type": "FeatureCollection", "features": items}, indent=2))
    else:
        assets = [(item, *named) for item in items for named in chosen_assets(item, asset_name)]
        if items and not assets:
            names = ", ".join(sorted({name for item in items for name in item["assets"]}))
            which = f"no asset {asset_name!r}" if asset_name else "no asset with data"
            raise click.ClickException(
                with_next_step(f"the items have {which}, but {names}", "name one with --asset")
            )
        if as_table:
            _print_table(assets, prefer_local)
        else:
            for _item, _name, asset in assets:
                show(path_or_url(asset["href"], prefer_local=prefer_local).replace("\n", ""))
    if not items:
        say("Nothing found.")
    if more and limit is None:
        say(with_next_step(f"There are more than these {LIMIT}", "add --limit, or ask for less"))


def _found(
    collection: str, bbox: Box | None, when: str | None, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """Return the items that were found, and whether there are more."""
    from rio_terrascope import stac
    from rio_terrascope.errors import CatalogueError

    url = stac.catalogue_url()
    catalog = stac.open_catalog(url)
    asked = catalog.search(
        collections=[collection],
        bbox=bbox,
        datetime=when,
        limit=min(limit + 1, PAGE),
        max_items=limit + 1,
    )
    with stac.catalogue_errors(url):
        items = list(asked.items_as_dicts())
        if not items and catalog.get_collection(collection) is None:
            raise CatalogueError(
                f"there is no collection {collection!r}", next_step=f"see {url.rstrip('/')}/collections"
            )
    return items[:limit], len(items) > limit


def _print_table(assets: Iterable[tuple[dict[str, Any], str, dict[str, Any]]], prefer_local: bool) -> None:
    rows = [("ID", "Time", "Asset", "Size", "Href")]
    for item, name, asset in assets:
        time = item["properties"].get("datetime") or item["properties"].get("start_datetime") or ""
        size = asset.get("file:size")
        shown = "" if size is None else f"{size / 1e6:,.1f} MB"
        href = path_or_url(asset["href"], prefer_local=prefer_local)
        rows.append((item["id"], time, name, shown, href))
    wide = [max(len(row[column]) for row in rows) for column in range(4)]
    for id_, time, name, size, href in rows:
        show(f"{id_:<{wide[0]}}  {time:<{wide[1]}}  {name:<{wide[2]}}  {size:>{wide[3]}}  {href}")
