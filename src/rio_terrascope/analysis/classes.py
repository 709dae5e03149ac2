"""What the values of a class map mean."""

import re
from typing import Any

from rio_terrascope.worldcover import LEGEND

_LINE = re.compile(r"^\s*(\d+)\s+(\S.*?)\s*$", re.MULTILINE)


def is_worldcover(dataset: Any) -> bool:
    """Tell whether a raster has WorldCover's colours: so do its tiles, parts of them, and mosaics."""
    try:
        colours = dataset.colormap(1)
    except ValueError:
        return False
    return all(colours.get(entry.value, ())[:3] == entry.color for entry in LEGEND)


def class_labels(dataset: Any) -> dict[int, str]:
    """Return the names of a class map's values, as far as they are known.

    Parameters
    ----------
    dataset : rasterio.DatasetReader

    Returns
    -------
    dict
        WorldCover's where the raster has its colours, else those of a tag ``legend`` with lines such
        as ``10  Tree cover``.
    """
    if is_worldcover(dataset):
        return {entry.value: entry.label for entry in LEGEND}
    return {int(value): label for value, label in _LINE.findall(dataset.tags().get("legend", ""))}
