"""``tsread info``: describe a raster."""

import json
from typing import Any

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.options import json_option
from rio_terrascope.cli.output import show
from rio_terrascope.settings import shown


@terrascope.command(short_help="Describe a raster.")
@click.argument("url")
@json_option
def info(url: str, as_json: bool) -> None:
    """Show a raster's size, bands, CRS, bounds, resolution, nodata, blocks, overviews, colours and tags.

    \b
        tsread info https://services.terrascope.be/download/....tif
        tsread info --json tile.tif
    """
    from rio_terrascope.cli.access import access
    from rio_terrascope.reading.ordinary import naming, open_dataset

    with access(url), naming(url), open_dataset(url) as dataset:
        facts = describe(dataset)
    if as_json:
        # NaN may be the nodata value, and is not valid JSON
        show(json.dumps(facts, indent=2, ensure_ascii=False).replace(": NaN", ': "nan"'))
    else:
        for name, value in _rows(facts):
            first, *more = value.splitlines() or [""]
            show(f"{name:<12}{first}")
            for line in more:
                show(f"{'':12}{line}")


def describe(dataset: Any) -> dict[str, Any]:
    """Return the facts about a raster as plain values."""
    from rio_terrascope.analysis.classes import class_labels

    labels = class_labels(dataset)
    try:
        colours = {value: list(colour) for value, colour in dataset.colormap(1).items() if any(colour[:3])}
    except ValueError:
        colours = None
    return {
        "name": shown(dataset.name),
        "driver": dataset.driver,
        "width": dataset.width,
        "height": dataset.height,
        "count": dataset.count,
        "dtype": dataset.dtypes[0],
        "crs": dataset.crs.to_string() if dataset.crs else None,
        "bounds": list(dataset.bounds),
        "res": list(dataset.res),
        "nodata": dataset.nodata,
        "block_shape": list(dataset.block_shapes[0]),
        "overviews": dataset.overviews(1),
        "bands": [
            {
                "band": band,
                "dtype": dataset.dtypes[band - 1],
                "description": dataset.descriptions[band - 1],
                "unit": dataset.units[band - 1],
                "scale": dataset.scales[band - 1],
                "offset": dataset.offsets[band - 1],
                "colorinterp": dataset.colorinterp[band - 1].name,
            }
            for band in dataset.indexes
        ],
        "colormap": colours,
        "labels": {value: labels[value] for value in labels if colours is None or value in colours},
        "tags": dataset.tags(),
    }


def _rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the facts as a name and a text each, for a person."""
    rows = [
        ("File", facts["name"]),
        ("Driver", facts["driver"]),
        ("Size", f"{facts['width']} x {facts['height']} pixels"),
        ("Bands", f"{facts['count']} ({', '.join(sorted({band['dtype'] for band in facts['bands']}))})"),
        ("CRS", facts["crs"] or "none"),
        ("Bounds", " ".join(f"{edge:.12g}" for edge in facts["bounds"])),
        ("Resolution", " x ".join(f"{size:.12g}" for size in facts["res"])),
        ("No data", "none" if facts["nodata"] is None else f"{facts['nodata']:g}"),
        ("Blocks", " x ".join(str(size) for size in reversed(facts["block_shape"]))),
        ("Overviews", ", ".join(map(str, facts["overviews"])) or "none"),
    ]
    for band in facts["bands"]:
        said = [band["description"], band["unit"]]
        if (band["scale"], band["offset"]) != (1, 0):
            said.append(f"stored values * {band['scale']:g} + {band['offset']:g}")
        if any(said):
            rows.append((f"Band {band['band']}", ", ".join(filter(None, said))))
    if facts["colormap"]:
        labels = facts["labels"]
        shown = [
            f"{value:>5}  #{bytes(colour[:3]).hex()}  {labels.get(value, '')}".rstrip()
            for value, colour in facts["colormap"].items()
            if value in labels or not labels
        ]
        rows.append(("Colours", "\n".join(shown[:32] + (["  ..."] if len(shown) > 32 else []))))
    tags = [
        f"{name}: {' '.join(str(value).split())}" for name, value in facts["tags"].items() if name != "legend"
    ]
    rows.append(("Tags", "\n".join(tags) or "none"))
    return rows
