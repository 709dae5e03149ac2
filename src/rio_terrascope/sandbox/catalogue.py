"""The catalogue: a small STAC API, open to everybody, over the files of the data server."""

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
from .app import Incoming, Judgement
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

PAGE = 10
"""Items on a page, where nothing else is asked for."""

LARGEST_PAGE = 10_000

_JSON, _GEOJSON = "application/json", "application/geo+json"


class Refused(Exception):
    """A request that the catalogue cannot answer.

    Parameters
    ----------
    status : int
        The HTTP status.
    description : str
        Why.
    """

    def __init__(self, status: int, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.description = description


class CatalogueSite:
    """What the catalogue answers.

    Parameters
    ----------
    origin : str
        Its own origin.
    data_origin : str
        Where the files are served.
    issuer : str
        The realm that gives out tokens for them.
    files : Files
        What there is.
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

    def judge(self, incoming: Incoming) -> Judgement:
        """Say whether an Authorization header came along; there should be none."""
        return Judgement("present" if incoming.authorizations else "none")

    def answer(self, incoming: Incoming, judgement: Judgement) -> ASGIApp:
        """Answer one request, in a thread: to import rasterio, and to look into files, takes its time."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            response = await asyncio.to_thread(self._answer, incoming)
            await response(scope, receive, send)

        return answer

    def _answer(self, incoming: Incoming) -> Response:
        is_search = incoming.path == "/search"
        allowed = ("GET", "HEAD", "POST") if is_search else ("GET", "HEAD")
        if incoming.method not in allowed:
            return Response(status_code=405, headers={"Allow": ", ".join(allowed)})
        try:
            found = self._found(incoming)
        except Refused as refused:
            code = "NotFoundError" if refused.status == 404 else "InvalidQueryParameter"
            return JSONResponse({"code": code, "description": refused.description}, refused.status)
        is_geojson = found.get("type") in ("Feature", "FeatureCollection")
        return JSONResponse(found, media_type=_GEOJSON if is_geojson else _JSON)

    def _found(self, incoming: Incoming) -> dict[str, Any]:
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
                        return self._linked(item)
                raise Refused(404, f"Item {item_id} in Collection {id_} does not exist.")
        raise Refused(404, "Not Found")

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
            self._described(
                id_,
                f"ESA WorldCover {year}",
                f"The land cover of the world in {year} at 10 m. The sandbox has the tiles it was given.",
                "CC-BY-4.0",
                world,
                [f"{year}-01-01T00:00:00Z", f"{year}-12-31T23:59:59Z"],
                "Map",
            )
            for year, id_ in COLLECTIONS.items()
        ]
        ndvi = self._described(
            scenes.COLLECTION,
            "Sentinel-2 NDVI (synthetic)",
            "Invented vegetation: the sandbox makes its pixels up.",
            "CC0-1.0",
            [4.2, 50.8, 5.0, 51.2],
            [f"{day[:4]}-{day[4:6]}-{day[6:]}T10:50:31Z" for day in (scenes.DAYS[0], scenes.DAYS[-1])],
            "NDVI",
        )
        return {collection["id"]: collection for collection in [*collections, ndvi]}

    def _described(
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
            raise Refused(404, f"Collection {id_} does not exist.") from None

    # Items

    def _items(self, collections: Iterable[str] = ()) -> list[dict[str, Any]]:
        """Return the items of some collections; of all where none is named."""
        # rasterio takes its time to import, and the other servers do without it.
        from .items import describe

        wanted = set(collections) or set(self._collections())
        return describe(self._files, wanted, self._data_origin, self._archive, self._auth)

    def _linked(self, item: dict[str, Any]) -> dict[str, Any]:
        collection = f"/collections/{item['collection']}"
        links = [
            self._link("self", f"{collection}/items/{item['id']}", _GEOJSON),
            self._link("parent", collection),
            self._link("collection", collection),
            self._link("root"),
        ]
        return item | {"links": links}

    def _search(self, incoming: Incoming, collection: str | None = None) -> dict[str, Any]:
        asked = _asked(incoming)
        limit = _whole(asked, "limit", PAGE)
        start = _whole(asked, "token", 0)
        if limit < 1:
            raise Refused(400, "limit: it should be 1 or more")
        wanted = _Wanted(asked | ({"collections": [collection]} if collection else {}))
        matched = [item for item in self._items(wanted.collections) if wanted.meets(item)]
        end = start + min(limit, LARGEST_PAGE)
        page = [self._linked(item) for item in matched[start:end]]
        links = [self._link("root")]
        if end < len(matched):
            links.append(self._next(incoming, asked | {"token": str(end)}))
        return {
            "type": "FeatureCollection",
            "features": page,
            "links": links,
            "numberMatched": len(matched),
            "numberReturned": len(page),
        }

    def _next(self, incoming: Incoming, asked: Mapping[str, Any]) -> dict[str, Any]:
        if incoming.method == "POST":
            return self._link("next", incoming.path, _GEOJSON, method="POST", body=dict(asked))
        return self._link("next", f"{incoming.path}?{urlencode(asked)}", _GEOJSON, method="GET")


class _Wanted:
    """What a search asks for."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        import shapely
        from shapely.geometry import shape

        self._shape = shape
        self.collections = _names(asked.get("collections"))
        self._ids = _names(asked.get("ids"))
        self._from, self._to = _interval(asked.get("datetime"))
        self._area: Any = None
        if asked.get("bbox") and asked.get("intersects"):
            raise Refused(400, "intersects and bbox are mutually exclusive")
        if asked.get("bbox"):
            west, south, east, north = _bbox(asked["bbox"])
            self._area = shapely.box(west, south, east, north)
            if west > east:  # across the antimeridian
                self._area = shapely.box(west, south, 180, north) | shapely.box(-180, south, east, north)
        elif asked.get("intersects"):
            try:
                given = asked["intersects"]
                self._area = shape(json.loads(given) if isinstance(given, str) else given)
            except Exception:  # whatever a strange geometry sets off
                raise Refused(400, "intersects: not a GeoJSON geometry") from None

    def meets(self, item: Mapping[str, Any]) -> bool:
        """Say whether an item is what the search asks for."""
        if self._ids and item["id"] not in self._ids:
            return False
        properties = item["properties"]
        begin = _moment(properties.get("start_datetime") or properties["datetime"])
        end = _moment(properties.get("end_datetime") or properties["datetime"])
        if (self._from and end < self._from) or (self._to and begin > self._to):
            return False
        return self._area is None or bool(self._area.intersects(self._shape(item["geometry"])))


def _asked(incoming: Incoming) -> dict[str, Any]:
    """Return the parameters of a search, whichever way they came."""
    if incoming.method != "POST":
        return dict(parse_qsl(incoming.query))
    try:
        asked = json.loads(incoming.body or b"{}")
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        raise Refused(400, "the body is not a JSON object")
    return asked


def _whole(asked: Mapping[str, Any], name: str, default: int) -> int:
    value = asked.get(name)
    if value is None:
        return default
    try:
        return int(value)
    except (TypeError, ValueError):
        raise Refused(400, f"{name}: {value!r} is not a number") from None


def _names(given: object) -> set[str]:
    if given is None or given == "":
        return set()
    return set(given.split(",")) if isinstance(given, str) else set(map(str, _listed(given)))


def _bbox(given: object) -> tuple[float, float, float, float]:
    try:
        numbers = [float(number) for number in _listed(given)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) == 6:  # with heights
        numbers = [*numbers[:2], *numbers[3:5]]
    if len(numbers) != 4 or numbers[1] > numbers[3]:
        raise Refused(400, "bbox: west, south, east, north are wanted")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _listed(given: object) -> list[Any]:
    if isinstance(given, str):
        return given.split(",")
    if isinstance(given, list):
        return given
    raise Refused(400, f"{given!r} is not a list")


def _interval(given: object) -> tuple[datetime | None, datetime | None]:
    """Read "a", "a/b", "../b" and "a/.."; None is an open end."""
    if given is None or given == "":
        return None, None
    first, slash, last = str(given).partition("/")
    begin, end = (_moment(part) if part not in ("", "..") else None for part in (first, last or ""))
    if not slash:
        end = begin
    if begin is None and end is None:
        raise Refused(400, f"datetime: {given!r} is open at both ends")
    if begin and end and begin > end:
        raise Refused(400, f"datetime: {given!r} ends before it begins")
    return begin, end


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or "T" not in text.upper() or moment.tzinfo is None:
        raise Refused(400, f"datetime: {text!r} is not as RFC 3339 wants it, 2021-06-14T00:00:00Z say")
    return moment.astimezone(UTC)
