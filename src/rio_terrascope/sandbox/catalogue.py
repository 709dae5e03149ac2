"""The catalogue: a small, open STAC API over the files of the data server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from . import scenes
from .app import Credentials, IncomingRequest, Site
from .data import Files
from .paths import COLLECTIONS

CONFORMANCE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]

PAGE_SIZE = 10
"""The default number of items on a page."""

MAX_PAGE_SIZE = 10_000

_JSON, _GEOJSON = "application/json", "application/geo+json"


class RequestError(Exception):
    """A request that the catalogue cannot answer.

    Parameters
    ----------
    status : int
        The HTTP status.
    description : str
        The reason.
    """

    def __init__(self, status: int, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.description = description


class CatalogueSite(Site):
    """The catalogue server.

    Parameters
    ----------
    origin : str
        The origin of this server.
    data_origin : str
        The origin that serves the files.
    issuer : str
        The realm that issues tokens for the files.
    files : Files
        The files that are served.
    archive : str
        The folder that holds the files on Terrascope's own machines.
    """

    def __init__(self, origin: str, data_origin: str, issuer: str, files: Files, archive: str) -> None:
        self._origin = origin
        self._data_origin = data_origin
        self._files = files
        self._archive = archive
        connect = f"{issuer}/.well-known/openid-configuration"
        self._auth = {"oidc": {"type": "openIdConnect", "openIdConnectUrl": connect}}

    def answer(self, incoming: IncomingRequest, credentials: Credentials) -> ASGIApp:
        """Answer one request, in a thread, because importing rasterio and opening files take time."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            response = await asyncio.to_thread(self._answer, incoming)
            await response(scope, receive, send)

        return answer

    def _answer(self, incoming: IncomingRequest) -> Response:
        is_search = incoming.path == "/search"
        allowed = ("GET", "HEAD", "POST") if is_search else ("GET", "HEAD")
        if incoming.method not in allowed:
            return Response(status_code=405, headers={"Allow": ", ".join(allowed)})
        try:
            found = self._route(incoming)
        except RequestError as error:
            code = "NotFoundError" if error.status == 404 else "InvalidQueryParameter"
            return JSONResponse({"code": code, "description": error.description}, error.status)
        is_geojson = found.get("type") in ("Feature", "FeatureCollection")
        return JSONResponse(found, media_type=_GEOJSON if is_geojson else _JSON)

    def _route(self, incoming: IncomingRequest) -> dict[str, Any]:
        match incoming.path.strip("/").split("/"):
            case [""]:
                return self._landing_page()
            case ["conformance"]:
                return {"conformsTo": CONFORMANCE}
            case ["search"]:
                return self._search(incoming)
            case ["collections"]:
                links = [self._link("self", "/collections"), self._link("root")]
                return {"collections": list(self._collections().values()), "links": links}
            case ["collections", id_]:
                return self._collection(id_)
            case ["collections", id_, "items"]:
                self._collection(id_)
                return self._search(incoming, collection=id_)
            case ["collections", id_, "items", item_id]:
                self._collection(id_)
                for item in self._items([id_]):
                    if item["id"] == item_id:
                        return self._with_links(item)
                raise RequestError(404, f"Item {item_id} in Collection {id_} does not exist.")
        raise RequestError(404, "Not Found")

    # Landing page and collections

    def _link(self, rel: str, path: str = "/", type_: str = _JSON, **more: object) -> dict[str, Any]:
        return {"rel": rel, "type": type_, "href": self._origin + path, **more}

    def _landing_page(self) -> dict[str, Any]:
        return {
            "type": "Catalog",
            "stac_version": "1.1.0",
            "id": "terrascope-sandbox",
            "title": "Terrascope's stand-in",
            "description": "A stand-in for Terrascope's catalogue, made by rio-terrascope.",
            "conformsTo": CONFORMANCE,
            "links": [
                self._link("self"),
                self._link("root"),
                self._link("data", "/collections"),
                self._link("conformance", "/conformance"),
                self._link("search", "/search", _GEOJSON, method="GET"),
                self._link("search", "/search", _GEOJSON, method="POST"),
                *(self._link("child", f"/collections/{id_}") for id_ in self._collections()),
            ],
        }

    def _collections(self) -> dict[str, dict[str, Any]]:
        world: list[float] = [-180, -60, 180, 83]
        collections = [
            self._describe_collection(
                id_,
                f"ESA WorldCover {year}",
                f"The land cover of the world in {year} at 10 m. The sandbox has only the tiles it serves.",
                "CC-BY-4.0",
                world,
                [f"{year}-01-01T00:00:00Z", f"{year}-12-31T23:59:59Z"],
                "Map",
            )
            for year, id_ in COLLECTIONS.items()
        ]
        ndvi = self._describe_collection(
            scenes.COLLECTION,
            "Sentinel-2 NDVI (synthetic)",
            "Synthetic vegetation, made up by the sandbox.",
            "CC0-1.0",
            [4.2, 50.8, 5.0, 51.2],
            [f"{day[:4]}-{day[4:6]}-{day[6:]}T10:50:31Z" for day in (scenes.DAYS[0], scenes.DAYS[-1])],
            "NDVI",
        )
        return {collection["id"]: collection for collection in [*collections, ndvi]}

    def _describe_collection(
        self,
        id_: str,
        title: str,
        description: str,
        licence: str,
        bbox: list[float],
        interval: list[str],
        asset: str,
    ) -> dict[str, Any]:
        path = f"/collections/{id_}"
        geotiff = "image/tiff; application=geotiff; profile=cloud-optimized"
        return {
            "type": "Collection",
            "stac_version": "1.1.0",
            "stac_extensions": ["https://stac-extensions.github.io/authentication/v1.1.0/schema.json"],
            "id": id_,
            "title": title,
            "description": description,
            "license": licence,
            "extent": {"spatial": {"bbox": [bbox]}, "temporal": {"interval": [interval]}},
            "auth:schemes": self._auth,
            "item_assets": {asset: {"type": geotiff, "roles": ["data"]}},
            "links": [
                self._link("self", path),
                self._link("root"),
                self._link("parent"),
                self._link("items", f"{path}/items", _GEOJSON),
            ],
        }

    def _collection(self, id_: str) -> dict[str, Any]:
        try:
            return self._collections()[id_]
        except KeyError:
            raise RequestError(404, f"Collection {id_} does not exist.") from None

    # Items

    def _items(self, collections: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Return the items of some collections, or of all if none is named."""
        # Importing rasterio takes time, and the other servers do not need it.
        from .items import describe

        wanted = set(collections) or set(self._collections())
        return describe(self._files, wanted, self._data_origin, self._archive, self._auth)

    def _with_links(self, item: dict[str, Any]) -> dict[str, Any]:
        collection = f"/collections/{item['collection']}"
        links = [
            self._link("self", f"{collection}/items/{item['id']}", _GEOJSON),
            self._link("parent", collection),
            self._link("collection", collection),
            self._link("root"),
        ]
        return item | {"links": links}

    def _search(self, incoming: IncomingRequest, collection: str | None = None) -> dict[str, Any]:
        parameters = _parameters(incoming)
        limit = _integer(parameters, "limit", PAGE_SIZE)
        start = _integer(parameters, "token", 0)
        if limit < 1:
            raise RequestError(400, "limit: it must be 1 or more")
        wanted = _Query(parameters | ({"collections": [collection]} if collection else {}))
        matched = [item for item in self._items(wanted.collections) if wanted.matches(item)]
        end = start + min(limit, MAX_PAGE_SIZE)
        page = [self._with_links(item) for item in matched[start:end]]
        links = [self._link("root")]
        if end < len(matched):
            links.append(self._next(incoming, parameters | {"token": str(end)}))
        return {
            "type": "FeatureCollection",
            "features": page,
            "links": links,
            "numberMatched": len(matched),
            "numberReturned": len(page),
        }

    def _next(self, incoming: IncomingRequest, parameters: Mapping[str, Any]) -> dict[str, Any]:
        if incoming.method == "POST":
            return self._link("next", incoming.path, _GEOJSON, method="POST", body=dict(parameters))
        return self._link("next", f"{incoming.path}?{urlencode(parameters)}", _GEOJSON, method="GET")


class _Query:
    """The conditions of a search."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        import shapely
        from shapely.geometry import shape

        self._shape = shape
        self.collections = _names(parameters.get("collections"))
        self._ids = _names(parameters.get("ids"))
        self._from, self._to = _interval(parameters.get("datetime"))
        self._area: Any = None
        if parameters.get("bbox") and parameters.get("intersects"):
            raise RequestError(400, "intersects and bbox are mutually exclusive")
        if parameters.get("bbox"):
            west, south, east, north = _bbox(parameters["bbox"])
            self._area = shapely.box(west, south, east, north)
            if west > east:  # across the antimeridian
                self._area = shapely.box(west, south, 180, north) | shapely.box(-180, south, east, north)
        elif parameters.get("intersects"):
            try:
                given = parameters["intersects"]
                self._area = shape(json.loads(given) if isinstance(given, str) else given)
            except Exception:  # shapely raises errors of many kinds
                raise RequestError(400, "intersects: not a GeoJSON geometry") from None

    def matches(self, item: Mapping[str, Any]) -> bool:
        """Return whether an item meets the conditions."""
        if self._ids and item["id"] not in self._ids:
            return False
        properties = item["properties"]
        begin = _datetime(properties.get("start_datetime") or properties["datetime"])
        end = _datetime(properties.get("end_datetime") or properties["datetime"])
        if (self._from and end < self._from) or (self._to and begin > self._to):
            return False
        return self._area is None or bool(self._area.intersects(self._shape(item["geometry"])))


def _parameters(incoming: IncomingRequest) -> dict[str, Any]:
    """Return the parameters of a search, from the query or the body."""
    if incoming.method != "POST":
        return dict(parse_qsl(incoming.query))
    try:
        parameters = json.loads(incoming.body or b"{}")
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise RequestError(400, "the body is not a JSON object")
    return parameters


def _integer(parameters: Mapping[str, Any], name: str, default: int) -> int:
    value = parameters.get(name)
    if value is None:
        return default
    try:
        return int(value)
    except (TypeError, ValueError):
        raise RequestError(400, f"{name}: {value!r} is not a number") from None


def _names(given: object) -> set[str]:
    if given is None or given == "":
        return set()
    return set(given.split(",")) if isinstance(given, str) else set(map(str, _list(given)))


def _bbox(given: object) -> tuple[float, float, float, float]:
    try:
        numbers = [float(number) for number in _list(given)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) == 6:  # with heights
        numbers = [*numbers[:2], *numbers[3:5]]
    if len(numbers) != 4 or numbers[1] > numbers[3]:
        raise RequestError(400, "bbox: expected west, south, east, north")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _list(given: object) -> list[Any]:
    if isinstance(given, str):
        return given.split(",")
    if isinstance(given, list):
        return given
    raise RequestError(400, f"{given!r} is not a list")


def _interval(given: object) -> tuple[datetime | None, datetime | None]:
    """Read "a", "a/b", "../b" or "a/..". None stands for an open end."""
    if given is None or given == "":
        return None, None
    first, slash, last = str(given).partition("/")
    begin, end = (_datetime(part) if part not in ("", "..") else None for part in (first, last or ""))
    if not slash:
        end = begin
    if begin is None and end is None:
        raise RequestError(400, f"datetime: {given!r} is open at both ends")
    if begin and end and begin > end:
        raise RequestError(400, f"datetime: {given!r} ends before it begins")
    return begin, end


def _datetime(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or "T" not in text.upper() or moment.tzinfo is None:
        raise RequestError(400, f"datetime: {text!r} is not in RFC 3339 format, such as 2021-06-14T00:00:00Z")
    return moment.astimezone(UTC)
