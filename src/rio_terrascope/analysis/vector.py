"""Points and polygons from files: CSV and GeoJSON."""

import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.errors import CRSError

from rio_terrascope.analysis.regions import Geometry
from rio_terrascope.errors import with_next_step

_DEGREES = (("lon", "lat"), ("longitude", "latitude"), ("lng", "lat"), ("long", "lat"))
_OTHERS = (("x", "y"),)


@dataclass(frozen=True)
class Points:
    """Points, with all columns of their file.

    Attributes
    ----------
    columns : list of str
        The columns' names.
    rows : list of list of str
        The cells of each point.
    coordinates : ndarray, shape (points, 2)
        x and y of each point.
    crs : str
        The CRS of the coordinates.
    """

    columns: list[str]
    rows: list[list[str]]
    coordinates: npt.NDArray[np.float64]
    crs: str


def read_points(source: str, *, crs: str | None = None) -> Points:
    """Read points from a CSV or GeoJSON file.

    A file that begins with ``{`` is GeoJSON, all others are CSV.

    Parameters
    ----------
    source : str
        A CSV file with columns lon and lat (or longitude and latitude), or x and y; or a GeoJSON file of
        points. ``-`` is stdin.
    crs : str, optional
        The CRS of the points. Needed for columns x and y.

    Returns
    -------
    Points

    Raises
    ------
    ValueError
        If the file's content is not understood. The message names the row or feature.
    OSError
        If the file cannot be read.
    """
    name = "stdin" if source == "-" else source
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig") if source == "-" else _text(Path(source))
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8 text.") from None
    if text.lstrip().startswith("{"):
        return _from_geojson(text, name, crs)
    return _from_csv(text, name, crs)


def read_geometries(path: str | PathLike[str]) -> tuple[list[Geometry], str]:
    """Read the polygons of a GeoJSON file: a geometry, a feature, or a collection of these.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    geometries : list of mapping
        Polygons and multi-polygons.
    crs : str
        The CRS of the geometries. RFC 7946 allows longitudes and latitudes only; files that are older
        than this standard may name another CRS.

    Raises
    ------
    ValueError
        If the file is not GeoJSON, or holds no polygons.
    OSError
        If the file cannot be read.
    """
    try:
        text = _text(Path(path))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not GeoJSON.") from None
    document = _parsed(text, str(path))
    geometries = list(_polygons(document, str(path)))
    if not geometries:
        raise ValueError(f"{path} holds no polygons.")
    return geometries, _named_crs(document)


def _text(path: Path) -> str:
    # newline: a CSV cell may hold line breaks, which must stay
    with path.open(encoding="utf-8-sig", newline="") as file:
        return file.read()


def _from_csv(text: str, name: str, crs: str | None) -> Points:
    first = text.partition("\n")[0]
    # spreadsheets write semicolons where the decimal mark is a comma; databases write tabs
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = next(reader, [])
    lowered = [column.strip().lower() for column in columns]
    found = next((pair for pair in _DEGREES + _OTHERS if set(pair) <= set(lowered)), None)
    if found is None:
        raise ValueError(
            f"{name} has no columns lon and lat, or x and y; its first row is {first.strip()[:80]!r}."
        )
    if crs is None and found in _OTHERS:
        raise ValueError(
            with_next_step(f"{name} has columns x and y, and no CRS", "add --crs, for example EPSG:32632")
        )
    x, y = (lowered.index(column) for column in found)
    rows: list[list[str]] = []
    coordinates: list[tuple[float, float]] = []
    try:
        for row in reader:
            if not row:
                continue  # an empty line
            where = f"{name}, row {reader.line_num}"
            if len(row) != len(columns):
                raise ValueError(f"{where} has {len(row)} cells; the first row has {len(columns)}.")
            coordinates.append((_number(row[x], columns[x], where), _number(row[y], columns[y], where)))
            rows.append(row)
    except csv.Error as error:
        raise ValueError(f"{name}, row {reader.line_num} is not valid CSV: {error}.") from None
    return Points(columns, rows, np.array(coordinates, np.float64).reshape(-1, 2), crs or "EPSG:4326")


def _number(cell: str, column: str, where: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{where}: {column} is {cell!r}, which is not a number.")
    return number


def _from_geojson(text: str, name: str, crs: str | None) -> Points:
    document = _parsed(text, name)
    features = document.get("features") if document["type"] == "FeatureCollection" else [document]
    if not isinstance(features, list):
        raise ValueError(f"{name} is not GeoJSON: its features are not a list.")
    properties: list[dict[str, Any]] = []
    coordinates: list[tuple[float, float]] = []
    for number, feature in enumerate(features, start=1):
        where = f"{name}, feature {number}"
        is_feature = isinstance(feature, dict) and feature.get("type") == "Feature"
        geometry = feature.get("geometry") if is_feature else feature
        if not isinstance(geometry, dict) or geometry.get("type") != "Point":
            kind = geometry.get("type") if isinstance(geometry, dict) else None
            raise ValueError(f"{where} is not a Point but {kind!r}.")
        position = geometry.get("coordinates")
        if not isinstance(position, list) or len(position) < 2:
            raise ValueError(f"{where} has no coordinates.")
        x, y = (_number(str(value), axis, where) for value, axis in zip(position, "xy", strict=False))
        coordinates.append((x, y))
        described = feature.get("properties") if is_feature else None
        if not isinstance(described, dict | None):
            raise ValueError(f"{where} has properties that are not an object.")
        properties.append(described or {})
    crs = crs or _named_crs(document)
    axes = ["lon", "lat"] if crs in ("EPSG:4326", "OGC:CRS84") else ["x", "y"]
    # in order of first appearance; a property must not hide a coordinate
    keys = list(dict.fromkeys(key for each in properties for key in each if key not in axes))
    rows = [
        [*(f"{value:.15g}" for value in point), *(_cell(each.get(key)) for key in keys)]
        for point, each in zip(coordinates, properties, strict=True)
    ]
    return Points([*axes, *keys], rows, np.array(coordinates, np.float64).reshape(-1, 2), crs)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ValueError(f"{name} is not GeoJSON{where}.") from None
    if not isinstance(document, dict) or "type" not in document:
        raise ValueError(f"{name} is not GeoJSON: it has no type.")
    return document


def _named_crs(document: Mapping[str, Any]) -> str:
    """Return the CRS that a GeoJSON document names, as files from before RFC 7946 do, or EPSG:4326."""
    try:
        return str(CRS.from_user_input(document["crs"]["properties"]["name"]).to_string())
    except (KeyError, TypeError, CRSError):
        return "EPSG:4326"


def _polygons(document: Any, path: str) -> Iterator[Geometry]:
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection":
        for feature in document.get("features") or []:
            yield from _polygons(feature, path)
    elif kind == "Feature":
        if document.get("geometry") is not None:
            yield from _polygons(document["geometry"], path)
    elif kind == "GeometryCollection":
        for geometry in document.get("geometries") or []:
            yield from _polygons(geometry, path)
    elif kind in ("Polygon", "MultiPolygon"):
        rings = document.get("coordinates") or []
        for ring in rings if kind == "Polygon" else [ring for polygon in rings for ring in polygon]:
            if len(ring) < 4 or not all(_is_position(position) for position in ring):
                raise ValueError(
                    f"{path} holds a polygon with a ring of fewer than four positions, or of invalid ones."
                )
        if rings:
            yield {"type": kind, "coordinates": _flat(rings)}
    elif kind not in ("Point", "MultiPoint", "LineString", "MultiLineString"):
        raise ValueError(f"{path} is not GeoJSON: it holds a {kind!r}.")


def _is_position(position: Any) -> bool:
    return (
        isinstance(position, list)
        and len(position) >= 2
        and all(isinstance(value, int | float) and math.isfinite(value) for value in position[:2])
    )


def _flat(coordinates: Any) -> Any:
    """Drop the heights that some tools write; only x and y are used."""
    if _is_position(coordinates):
        return coordinates[:2]
    return [_flat(part) for part in coordinates]
