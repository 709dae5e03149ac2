"""Terrascope's catalogue, a STAC API that is open to everybody: finding files.

`open_catalog` needs pystac-client: ``pip install 'rio-terrascope[stac]'``. Importing this module does not,
and neither does `prefer_local`.
"""

import contextlib
import json
import os
import ssl
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

from rio_terrascope import certificates
from rio_terrascope.errors import CatalogueError, install_advice, with_next_step
from rio_terrascope.http import secure
from rio_terrascope.settings import checked_url

if TYPE_CHECKING:
    from pystac_client import Client

CATALOGUE_URL = "https://stac.terrascope.be"

TIMEOUT = (10, 60)
"""Seconds to connect, and seconds between two bytes of an answer."""

T = TypeVar("T")


def open_catalog(url: str | None = None, **options: Any) -> "Client":
    """Open the catalogue.

    Searching needs no login, and sends none. Read the files that it finds inside a `terrascope_env`.

    Parameters
    ----------
    url : str, optional
        The STAC API. If not given, TERRASCOPE_STAC_URL, else Terrascope's own. ``http://`` is only for a
        server on this machine.
    **options
        Options for `pystac_client.Client.open`, for example ``modifier=prefer_local``. Without a
        ``timeout`` or a ``stac_io``, a request waits for an answer at most a minute, and is repeated up to
        three times if the server is busy (429, 502, 503, 504).

    Returns
    -------
    pystac_client.Client
        Its methods raise pystac-client's errors.

    Raises
    ------
    ImportError
        If pystac-client is not installed.
    SettingsError
        If the URL is malformed, or ``http://`` to another machine.
    CatalogueError
        If the catalogue cannot be reached, or its answer is not a catalogue.

    Examples
    --------
    >>> catalog = open_catalog(modifier=prefer_local)
    >>> search = catalog.search(collections=["esa-worldcover-map-10m-2021-v2"], bbox=(6.4, 0, 7.5, 1.8))
    >>> [item.assets["Map"].href for item in search.items()]
    """
    url = catalogue_url(url)
    try:
        from pystac_client import Client
        from pystac_client.stac_api_io import StacApiIO
        from urllib3 import Retry
    except ImportError as error:
        raise ImportError(
            with_next_step(
                f"the catalogue needs pystac-client ({error.name} is missing)", install_advice("stac")
            )
        ) from None
    options.setdefault("timeout", TIMEOUT)
    if options.get("stac_io") is None:
        # allowed_methods: the POST of a search changes nothing, so it can be repeated
        # raise_on_status: the last answer says more than "too many retries"
        busy = Retry(
            3,
            status_forcelist=(429, 502, 503, 504),
            backoff_factor=0.2,
            allowed_methods=None,
            raise_on_status=False,
        )
        options["stac_io"] = StacApiIO(max_retries=busy)
        # pystac-client ignores a session's `verify`, so the certificates need an adapter of their own
        secure(options["stac_io"].session, url, certificates.for_requests(), retries=busy)
    with catalogue_errors(url):
        # with the slash: without it, pystac-client takes the root for another catalogue, and asks again
        return Client.open(url if urlsplit(url).path else f"{url}/", **options)


def catalogue_url(url: str | None = None) -> str:
    """Return the catalogue's URL: the argument, else TERRASCOPE_STAC_URL, else Terrascope's own.

    Raises
    ------
    SettingsError
        If it is malformed, or ``http://`` to another machine.
    """
    return checked_url(url or os.environ.get("TERRASCOPE_STAC_URL") or CATALOGUE_URL, "the catalogue's URL")


@contextlib.contextmanager
def catalogue_errors(url: str) -> Iterator[None]:
    """Turn errors of pystac-client inside the block into `CatalogueError`, which names the host."""
    from pystac_client.exceptions import APIError

    host = urlsplit(url).netloc
    try:
        yield
    except CatalogueError:
        raise
    except APIError as error:
        status = getattr(error, "status_code", None)
        bundle = certificates.for_requests()
        is_tls = isinstance(certificates.innermost(error), ssl.SSLError)
        if status is None and (is_tls or (bundle and bundle.fault())):
            what, advice = certificates.why_refused(error, bundle)
            raise CatalogueError(
                f"the catalogue at {host} cannot be reached: {what}", next_step=advice
            ) from error
        if status is None:
            raise CatalogueError(
                f"the catalogue at {host} cannot be reached ({_reason(error)})",
                next_step="check TERRASCOPE_STAC_URL and your network",
            ) from error
        if status in (400, 422):
            raise CatalogueError(
                f"the catalogue at {host} does not understand the search ({status}: {_description(error)})",
                next_step="check its parameters",
            ) from error
        step = "check TERRASCOPE_STAC_URL" if 400 <= status < 500 else "try again in a while"
        raise CatalogueError(f"the catalogue at {host} answered {status}", next_step=step) from error
    except Exception as error:  # the errors that an answer of another kind causes have no base class
        raise CatalogueError(
            f"{host} answered with something that is not a STAC catalogue ({type(error).__name__})",
            next_step="check TERRASCOPE_STAC_URL; or a proxy answers in its place",
        ) from error


def prefer_local(target: T) -> T:
    """Replace URLs by files on this machine, if they are here, so that they need no request.

    Terrascope's items name the path of each asset on Terrascope's own machines
    (``alternate.local.href``). If that file can be read here, the asset's ``href`` becomes its
    ``file://`` URL; otherwise nothing changes.

    Parameters
    ----------
    target : pystac.Item, Asset, ItemCollection, Collection, a dict, a list of such; or str
        Changed in place, as pystac-client expects of a ``modifier``. A dict is the JSON of an item, an
        asset or a FeatureCollection. A string is an href: a ``file://`` URL becomes the file's path,
        if it is here, and any other string is returned unchanged.

    Returns
    -------
    The same object; for a string, a string.

    Raises
    ------
    TypeError
        If it is none of these.

    Examples
    --------
    >>> catalog = open_catalog(modifier=prefer_local)
    >>> item = prefer_local(item)
    """
    if isinstance(target, str):
        return cast(T, local_path(target) or target)
    for asset in _assets(target):
        if isinstance(asset, MutableMapping):
            if path := _local_copy(asset):
                asset["href"] = f"file://{path}"
        elif path := _local_copy(asset.extra_fields):
            # as a URL: pystac takes a bare path for one at the catalogue
            asset.href = f"file://{path}"
    return target


def local_path(href: str) -> str | None:
    """Return the path of a ``file://`` URL, if that file can be read on this machine."""
    parts = urlsplit(href)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        return None
    path = unquote(parts.path)
    return path if os.path.isfile(path) and os.access(path, os.R_OK) else None


def _local_copy(asset: Mapping[str, Any]) -> str | None:
    try:
        href = asset["alternate"]["local"]["href"]
    except (KeyError, TypeError):
        return None
    return local_path(href) if isinstance(href, str) else None


def _assets(target: Any) -> Iterator[Any]:
    """Yield the assets of any STAC object."""
    if isinstance(target, Mapping):
        if "features" in target:
            yield from _assets(target["features"])
        elif "assets" in target:
            yield from target["assets"].values()
        elif "href" in target:
            yield target
        elif "collections" in target or "type" in target:
            return  # another kind of object, without assets
        else:
            raise TypeError("the dict is not a STAC item, asset or item collection")
    elif hasattr(target, "assets"):
        yield from target.assets.values()
    elif hasattr(target, "href") and hasattr(target, "extra_fields"):
        yield target
    elif isinstance(target, Iterable) and not isinstance(target, str | Iterator):
        for one in target:
            yield from _assets(one)
    else:
        raise TypeError(f"{type(target).__name__} has no assets: give a STAC item, asset or item collection")


def _reason(error: BaseException) -> str:
    """Say in a few words why the catalogue did not answer."""
    message = " ".join(str(error).split())
    for known, words in (
        ("Name or service not known", "its name is unknown"),
        ("Temporary failure in name resolution", "its name cannot be looked up"),
        ("refused", "connection refused"),
        ("timed out", "no answer in time"),
        ("CERTIFICATE", "its certificate is not trusted"),
    ):
        if known in message:
            return words
    return message[:200]


def _description(error: BaseException) -> str:
    try:
        return str(json.loads(str(error))["description"])[:200]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
