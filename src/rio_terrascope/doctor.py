"""The checks behind `tsread doctor`, from the versions to the first pixel, each with its next step."""

import importlib.metadata
import os
import platform
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import rasterio
from rasterio.errors import RasterioError
from requests.utils import get_environ_proxies

from rio_terrascope import certificates
from rio_terrascope.auth.credentials import find_credentials
from rio_terrascope.auth.oidc import Token
from rio_terrascope.auth.tokens import TokenSource
from rio_terrascope.env import terrascope_env
from rio_terrascope.errors import CredentialsNotFoundError, TerrascopeError
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.opening import open_whole
from rio_terrascope.http import NoAnswerError, ask
from rio_terrascope.opening.look import look
from rio_terrascope.settings import Settings, shown, stays_here

TIMEOUT = 20.0  # seconds for the whole answer
_FIRST_BYTES = "bytes=0-1023"

State = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one step.

    Attributes
    ----------
    step : str
    state : {"ok", "warning", "failed", "skipped"}
    what : str
        In words.
    next : str
        The next step; empty if there is nothing to do.
    """

    step: str
    state: State
    what: str
    next: str = ""


def examine(url: str | None = None) -> Iterator[Finding]:
    """Check everything that reading a file of Terrascope needs.

    Parameters
    ----------
    url : str, optional
        A file to read. Without it, the steps about a file are left out.

    Yields
    ------
    Finding
        One for each step, at once. A step is skipped if it needs an earlier one that failed.
    """
    yield _versions()
    yield _scope()
    try:
        settings = Settings.from_environ()
    except TerrascopeError as error:
        yield _failed("settings", error, "correct that variable, or unset it; URLs begin with https://")
        return
    yield _settings(settings)
    yield _certificates()
    found, tokens = _credentials(settings)
    yield found
    login_host = _reachable("login host", settings.token_url, certificates.for_requests())
    yield login_host
    for origin in settings.origins:
        yield _reachable("data host", origin, certificates.for_gdal())
    logged_in = False
    if tokens is None:
        yield Finding("login", "skipped", "there is nothing to log in with")
    elif login_host.state == "failed":
        yield Finding("login", "skipped", "its host cannot be reached")
    else:
        found = _login(tokens)
        logged_in = found.state == "ok"
        yield found
    if url is None:
        return
    is_remote = url.startswith(("http://", "https://"))
    ours = settings.covers(url)
    if ours and not logged_in:
        yield Finding("range request", "skipped", "it needs the login")
        yield Finding("GDAL", "skipped", "it needs the login")
        return
    if is_remote:
        token = tokens.get() if ours and tokens else None
        found = _range_request(url, token)
        if not ours:
            yield Finding(
                "origin",
                "warning",
                f"{_host(url)} is not one of the origins, so it is read without a token",
                "if it should get one, add it to TERRASCOPE_ORIGINS",
            )
        yield found
    yield _gdal_opens(url, settings, tokens if ours else None)


def _versions() -> Finding:
    what = (
        f"rio-terrascope {importlib.metadata.version('rio-terrascope')}, rasterio {rasterio.__version__}, "
        f"GDAL {rasterio.__gdal_version__}, Python {platform.python_version()}"
    )
    return Finding("versions", "ok", what)


def _scope() -> Finding:
    reason = libgdal.why_not_scoped()
    if reason is None:
        return Finding("scope", "ok", "the token can be confined to Terrascope's origins")
    return Finding(
        "scope", "warning", f"{reason}: every host would receive the token", "pip install 'rasterio>=1.4.4'"
    )


def _settings(settings: Settings) -> Finding:
    names = [f"TERRASCOPE_{name}" for name in ("TOKEN_URL", "CLIENT_ID", "ORIGINS", "TIMEOUT")]
    changed = [name for name in names if os.environ.get(name)]
    what = (
        f"log in at {settings.token_host} as client {settings.client_id}; read {', '.join(settings.origins)}"
    )
    return Finding("settings", "ok", f"{what} ({', '.join(changed)} set)" if changed else what)


def _certificates() -> Finding:
    """Say which certificates are trusted, and which variables name a file that cannot be used."""
    bundles = certificates.named()
    faults = {bundle.variable: fault for bundle in bundles if (fault := bundle.fault())}
    if faults:
        advice = f"correct {' and '.join(faults)}, or unset {'it' if len(faults) == 1 else 'them'}"
        return Finding("certificates", "warning", "; ".join(faults.values()), advice)
    login, data = certificates.for_requests(), certificates.for_gdal()
    if login is None or data is None:  # then both are None, since one variable is enough for both
        return Finding("certificates", "ok", "the usual authorities are trusted (certifi's)")
    if login == data:
        return Finding("certificates", "ok", f"those in {login.path} are trusted ({login.variable})")
    what = (
        f"those in {login.path} are trusted for the login ({login.variable}), "
        f"those in {data.path} for the data ({data.variable})"
    )
    return Finding("certificates", "ok", what)


def _credentials(settings: Settings) -> tuple[Finding, TokenSource | None]:
    try:
        found = find_credentials(settings)
        tokens = TokenSource(settings=settings)
    except CredentialsNotFoundError as error:
        return _failed("credentials", error), None
    return Finding("credentials", "ok", f"user {found.username}, from {found.source}"), tokens


def _reachable(name: str, address: str, bundle: certificates.Bundle | None) -> Finding:
    """Look a host up, and send it any request, over TLS with these certificates."""
    parts = urlsplit(address)
    host, where = parts.hostname or "", _host(address)
    proxy = None if stays_here(address) else get_environ_proxies(address).get(parts.scheme)
    if proxy is None:  # a proxy looks the name up itself
        try:
            socket.getaddrinfo(host, parts.port or parts.scheme)
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            advice = "check the network, or HTTPS_PROXY if yours needs a proxy"
            return Finding(name, "failed", f"{where} has no address ({reason})", advice)
    try:
        url = f"{parts.scheme}://{where}/"
        ask("GET", url, bundle, seconds=TIMEOUT, read=lambda answer: answer)
    except NoAnswerError as error:
        advice = error.advice or "check the network, firewall and HTTPS_PROXY"
        return Finding(name, "failed", f"{where}: {error}", advice)
    secured = "over TLS" if parts.scheme == "https" else "without TLS, on this machine"
    return Finding(name, "ok", f"{where} answers {secured}{', through a proxy' if proxy else ''}")


def _login(tokens: TokenSource) -> Finding:
    try:
        tokens.get()
    except TerrascopeError as error:
        return _failed("login", error)
    return Finding("login", "ok", f"a token that is valid for {tokens.seconds_left:.0f} s")


def _range_request(url: str, token: Token | None) -> Finding:
    """Ask for the first bytes of the file, as GDAL will."""
    step = "range request"
    try:
        answer = ask(
            "GET",
            url,
            certificates.for_gdal(),
            seconds=TIMEOUT,
            headers={"Range": _FIRST_BYTES},
            access_token=token.access_secret if token else None,
            read=lambda answer: answer,
        )
    except NoAnswerError as error:
        return Finding(step, "failed", f"{_host(url)}: {error}", error.advice or "try again in a while")
    status, kind = answer.status, answer.headers.get("Content-Type", "")
    if kind.startswith("text/html") and status < 300:
        return Finding(step, "failed", "a web page came in place of the file", "check the URL")
    if 300 <= status < 400:
        return _redirect(step, url, status, token)
    findings: dict[int, tuple[State, str, str]] = {
        206: ("ok", "the first bytes came (206)", ""),
        200: ("warning", "the server sends whole files only (200): reading will be slow", ""),
        401: ("failed", "refused (401), although the login is valid", "log in again: tsread login"),
        403: (
            "failed",
            "no access (403)",
            "open it in a browser where you are logged in, and accept its licence or ask for access",
        ),
        404: ("failed", "there is no such file (404)", "check the URL"),
    }
    state, what, advice = findings.get(status, ("failed", f"it answered {status}", "try again in a while"))
    if status == 401 and token is None:
        what, advice = "refused (401): it wants another login than Terrascope's", "see TERRASCOPE_ORIGINS"
    return Finding(step, state, what, advice)


def _redirect(step: str, url: str, status: int, token: Token | None) -> Finding:
    """Say where a URL leads, and whether GDAL itself would take the token along."""
    if token is None:
        return Finding(step, "warning", f"it redirects ({status})", "use the URL that it leads to")
    try:
        target = look(url, token).final_url
        head = ask(
            "HEAD", target, certificates.for_gdal(), seconds=TIMEOUT, read=lambda answer: answer.status
        )
    except NoAnswerError as error:
        return Finding(step, "failed", f"it redirects ({status}), but then: {error}", "check the URL")
    host = _host(target)
    if host == _host(url):
        return Finding(step, "ok", f"it redirects ({status}) to another URL of {host}")
    what = f"it redirects ({status}) to {host}. env.open and tsread's commands go there without the token"
    # as tests/env/test_isolation.py finds; GDAL 3.10 does the last for signed URLs only
    sends = status == 301 if head != 403 else "X-Amz-Signature" in target or status != 301
    if not sends:
        return Finding(step, "ok", f"{what}; so does plain rasterio.open")
    return Finding(
        step,
        "warning",
        f"{what}; plain rasterio.open and 'tsread exec' may send the token to {host}",
        "use env.open or a command of tsread for this URL, or the URL that it leads to",
    )


def _gdal_opens(url: str, settings: Settings, tokens: TokenSource | None) -> Finding:
    try:
        if tokens is None:
            with open_whole(url) as dataset:
                return _first_block(dataset)
        with terrascope_env(settings=settings, tokens=tokens) as env, env.open(url) as dataset:
            return _first_block(dataset)
    except TerrascopeError as error:
        return _failed("GDAL", error)
    except RasterioError as error:
        what = f"it cannot read it: {shown(' '.join(str(error).split()))}"
        return Finding(
            "GDAL", "failed", what, "see the steps above; if they are ok, the file is not a raster"
        )


def _first_block(dataset: rasterio.DatasetReader) -> Finding:
    window = next(iter(dataset.block_windows(1)))[1]
    dataset.read(1, window=window)
    what = f"{dataset.driver}, {dataset.width} x {dataset.height}, {dataset.dtypes[0]}: a block was read"
    return Finding("GDAL", "ok", what)


def _host(url: str) -> str:
    """Return host and port of a URL, without a user name or password."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:  # a malformed address
        return "the host"


def _failed(step: str, error: TerrascopeError, otherwise: str = "") -> Finding:
    return Finding(step, "failed", error.what.rstrip("."), error.next_step or otherwise)
