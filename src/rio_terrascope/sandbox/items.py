"""The STAC items of the catalogue, like those of Terrascope's."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Container, Mapping
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform_geom

from . import scenes
from .data import Files
from .paths import COLLECTIONS, VERSIONS, worldcover_tile
from .scenes import SCENES, Scene

# Rasters without a CRS are left out of the catalogue, and nobody reads warnings of the server process.
warnings.simplefilter("ignore", NotGeoreferencedWarning)

EXTENSIONS = [
    "https://stac-extensions.github.io/authentication/v1.1.0/schema.json",
    "https://stac-extensions.github.io/alternate-assets/v1.2.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
]

_ARCHIVE_FOLDERS = {"Sentinel2": "TERRASCOPE_Sentinel2"}  # names that differ from the URL's


def describe(
    files: Files, collections: Container[str], data_origin: str, archive: str, auth: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the items of some collections.

    Parameters
    ----------
    files : Files
        The files that are served. The items of the WorldCover tiles among them describe their present
        content; other files have no items.
    collections : container of str
        The ids of the collections. Their tiles are made if they do not exist yet.
    data_origin : str
        The origin that serves the files.
    archive : str
        The folder that holds the files on Terrascope's own machines.
    auth : mapping
        The "auth:schemes" of every item.

    Returns
    -------
    list of dict
        The items, without links, latest first.
    """
    found = [
        item
        for url_path in files.paths()
        if (tile := worldcover_tile(url_path))
        and COLLECTIONS[tile[0]] in collections
        and (file := files.local(url_path))
        and (item := _worldcover(url_path, file, *tile))
    ]
    if scenes.COLLECTION in collections:
        found += [_ndvi(scene) for scene in SCENES.values()]
    items = []
    for item in sorted(found, key=lambda item: (item["properties"]["datetime"], item["id"]), reverse=True):
        ((name, asset),) = item["assets"].items()
        url_path = asset["href"]
        first, _, rest = url_path.removeprefix("/download/").partition("/")
        local = os.path.join(archive, _ARCHIVE_FOLDERS.get(first, first), rest)
        asset = asset | {
            "href": data_origin + url_path,
            "auth:refs": list(auth),
            "alternate": {"local": {"href": f"file://{local}"}},
        }
        items.append(
            item
            | {
                "properties": item["properties"] | {"auth:schemes": dict(auth)},
                "assets": {name: asset},
            }
        )
    return items


def _worldcover(url_path: str, file: str, year: int, name: str) -> dict[str, Any] | None:
    try:
        status = os.stat(file)
        asset = _raster_fields(file, status.st_mtime_ns, status.st_size)
    except (OSError, RasterioError):
        return None
    begin, end = f"{year}-01-01T00:00:00Z", f"{year}-12-31T23:59:59Z"
    return _item(
        f"ESA_WorldCover_10m_{year}_{VERSIONS[year]}_{name}",
        COLLECTIONS[year],
        {"datetime": begin, "start_datetime": begin, "end_datetime": end},
        "Map",
        asset | {"href": url_path, "title": f"Land cover {year}"},
    )


@functools.lru_cache(maxsize=1024)
def _raster_fields(file: str, _changed: int, size: int) -> dict[str, Any]:
    """Describe a raster. The time of its last change is only a key for the cache."""
    with rasterio.open(file) as dataset:
        if dataset.crs is None:
            raise RasterioError("no CRS")
        nodata = {} if dataset.nodata is None else {"nodata": dataset.nodata}
        return {
            "file:size": size,
            "data_type": dataset.dtypes[0],
            **nodata,
            "proj:code": dataset.crs.to_string(),
            "proj:shape": list(dataset.shape),
            "proj:bbox": list(dataset.bounds),
            "proj:transform": list(dataset.transform)[:6],
        }


@functools.cache
def _ndvi(scene: Scene) -> dict[str, Any]:
    asset = {
        "href": scene.url_path,
        "title": "NDVI 10 m",
        "file:size": scenes.FILE_SIZE,
        "data_type": "uint8",
        "nodata": scenes.NODATA,
        "raster:scale": scenes.SCALE,
        "raster:offset": scenes.OFFSET,
        "gsd": scenes.PIXEL,
        "proj:code": scenes.CRS,
        "proj:shape": [scenes.SIZE, scenes.SIZE],
        "proj:bbox": list(scene.bounds),
        "proj:transform": list(scene.transform),
    }
    return _item(scene.id, scenes.COLLECTION, {"datetime": scene.datetime}, "NDVI", asset)


def _item(
    id_: str, collection: str, properties: dict[str, Any], asset_name: str, asset: dict[str, Any]
) -> dict[str, Any]:
    west, south, east, north = asset["proj:bbox"]
    outline = {
        "type": "Polygon",
        "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]],
    }
    if asset["proj:code"] != "EPSG:4326":
        outline = transform_geom(asset["proj:code"], "EPSG:4326", outline, precision=6)
    x, y = zip(*outline["coordinates"][0], strict=True)
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": EXTENSIONS,
        "id": id_,
        "collection": collection,
        "geometry": outline,
        "bbox": [min(x), min(y), max(x), max(y)],
        "properties": properties,
        "assets": {
            asset_name: asset
            | {"type": "image/tiff; application=geotiff; profile=cloud-optimized", "roles": ["data"]}
        },
    }
