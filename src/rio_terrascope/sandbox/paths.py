"""Where Terrascope offers WorldCover tiles, and where the sandbox offers the files it is given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

VERSIONS = {2020: "v100", 2021: "v200"}
"""The product version of each year's map."""

COLLECTIONS = {2020: "esa-worldcover-map-10m-2020-v1", 2021: "esa-worldcover-map-10m-2021-v2"}
"""The catalogue's collection of each year's map."""

SYNTHETIC_TILES = [(year, name) for name in ("N00E006", "S03E006") for year in VERSIONS]
"""Year and name of the tiles that the sandbox invents where it is given none."""

_URL_PATH = re.compile(r"/download/WORLDCOVER/.*_(20\d\d)_v\d00_([NS]\d\d[EW]\d{3})_Map\.tif")
_FILE_NAME = re.compile(r"ESA_WorldCover_10m_(2020_v100|2021_v200)_([NS]\d\d[EW]\d{3})_Map\.tif")


def worldcover_path(year: int = 2020, name: str = "N00E006") -> str:
    """Return the URL path under which Terrascope offers a WorldCover tile.

    Parameters
    ----------
    year : int
        2020 or 2021.
    name : str
        The tile's south-west corner.

    Returns
    -------
    str
        Begins with /download/.
    """
    version = VERSIONS[year]
    product = f"ESA_WORLDCOVER_10M_{year}_{version.upper()}"
    stem = f"ESA_WorldCover_10m_{year}_{version}_{name}_Map"
    return f"/download/WORLDCOVER/{product}/MAP/{stem}/{stem}.tif"


def worldcover_tile(url_path: str) -> tuple[int, str] | None:
    """Return the year and name of the WorldCover tile with this URL path; None if it is none's."""
    found = _URL_PATH.fullmatch(url_path)
    if found is None:
        return None
    year, name = int(found[1]), found[2]
    return (year, name) if year in VERSIONS and worldcover_path(year, name) == url_path else None


def offered_paths(files: Iterable[str]) -> dict[str, str]:
    """Return the URL path for each local file.

    Parameters
    ----------
    files : iterable of str
        A WorldCover tile goes under its real path. The first file with any other name stands for the
        2020 tile N00E006, unless that is among the files; further ones go under /download/<name>.

    Returns
    -------
    dict
        Files by URL path, in the files' order.
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
