"""The meaning of a class map's values."""

import re
from typing import Any

from rio_terrascope.worldcover import LEGEND

_LINE = re.compile(r"^\s*(\d+)\s+(\S.*?)\s*$", re.MULTILINE)


def is_worldcover(dataset: Any) -> bool:
    """Tell whether a raster has WorldCover's colours, as its tiles, extracts and mosaics do."""
    try:
        colours = dataset.colormap(1)
    except ValueError:
        return False
    return all(colours.get(entry.value, ())[:3] == entry.color for entry in LEGEND)


def class_labels(dataset: Any) -> dict[int, str]:
    """Return the names of a class map's values.

    Parameters
    ----------
    dataset : rasterio.DatasetReader

    Returns
    -------
    dict
        WorldCover's names if the raster has WorldCover's colours. Otherwise the names from the tag
        ``legend``, whose lines look like ``10  Tree cover``; empty if there is no such tag.
    """
    if is_worldcover(dataset):
        return {entry.value: entry.label for entry in LEGEND}
    return {int(value): label for value, label in _LINE.findall(dataset.tags().get("legend", ""))}
