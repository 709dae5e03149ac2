"""The URL paths of WorldCover tiles at Terrascope, and of the files in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

VERSIONS = {2020: "v100", 2021: "v200"}
"""The product version of the map, by year."""

COLLECTIONS = {2020: "esa-worldcover-map-10m-2020-v1", 2021: "esa-worldcover-map-10m-2021-v2"}
"""The id of the map's collection in the catalogue, by year."""

SYNTHETIC_TILES = [(year, name) for name in ("N00E006", "S03E006") for year in VERSIONS]
"""Year and name of the tiles that the sandbox makes if it is given none."""

_URL_PATH = re.compile(r"/download/WORLDCOVER/.*_(20\d\d)_v\d00_([NS]\d\d[EW]\d{3})_Map\.tif")
_FILE_NAME = re.compile(r"ESA_WorldCover_10m_(2020_v100|2021_v200)_([NS]\d\d[EW]\d{3})_Map\.tif")


def worldcover_path(year: int = 2020, name: str = "N00E006") -> str:
    """Return the URL path of a WorldCover tile at Terrascope.

    Parameters
    ----------
    year : int
        2020 or 2021.
    name : str
        The tile's south-west corner, such as N00E006.

    Returns
    -------
    str
        The path, which begins with /download/.
    """
    version = VERSIONS[year]
    product = f"ESA_WORLDCOVER_10M_{year}_{version.upper()}"
    stem = f"ESA_WorldCover_10m_{year}_{version}_{name}_Map"
    return f"/download/WORLDCOVER/{product}/MAP/{stem}/{stem}.tif"


def worldcover_tile(url_path: str) -> tuple[int, str] | None:
    """Return the year and name of the WorldCover tile at a URL path, or None if it is another file's."""
    found = _URL_PATH.fullmatch(url_path)
    if found is None:
        return None
    year, name = int(found[1]), found[2]
    return (year, name) if year in VERSIONS and worldcover_path(year, name) == url_path else None


def offered_paths(files: Iterable[str]) -> dict[str, str]:
    """Return the URL path of each local file.

    Parameters
    ----------
    files : iterable of str
        A file named like a WorldCover tile gets the path of that tile. The first other file gets the
        path of the 2020 tile N00E006, unless that tile is among the files; the rest get /download/<name>.

    Returns
    -------
    dict
        The files by URL path, in the given order.
    """
    files = list(files)
    names = {file: _FILE_NAME.fullmatch(Path(file).name) for file in files}
    real = {
        file: worldcover_path(int(match[1][:4]), match[2])
        for file, match in names.items()
        if match is not None
    }
    default = worldcover_path()
    offered: dict[str, str] = {}
    for file in files:
        free = default not in offered and default not in real.values()
        path = real.get(file) or (default if free else f"/download/{Path(file).name}")
        if path in offered:
            raise ValueError(f"Two tiles for one URL: {offered[path]} and {file} would both be {path}")
        offered[path] = file
    return offered
