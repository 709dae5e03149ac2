"""Where to log in and where the token may go."""

import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from rio_terrascope.errors import SettingsError
from rio_terrascope.secret import Variables

TOKEN_URL = "https://sso.terrascope.be/auth/realms/terrascope/protocol/openid-connect/token"
CLIENT_ID = "public"
ORIGINS = ("https://services.terrascope.be",)
TIMEOUT = 30.0
MAX_CONNECTIONS = 16

_DEFAULT_PORTS = {"http": 80, "https": 443}
# what a URL in a text ends at: spaces, quotes, and brackets around it
_URL = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<host>[^\s'\"<>/?#]*)(?P<path>[^\s'\"<>?#]*)(?:[?#][^\s'\"<>)]*)?",
    re.IGNORECASE,
)
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


@dataclass(frozen=True)
class Settings:
    """Settings of one Terrascope service.

    Parameters
    ----------
    token_url : str
        The OpenID Connect token endpoint.
    client_id : str
        The OpenID Connect client, ``public`` at Terrascope.
    origins : sequence of str
        Where the access token may go: ``scheme://host[:port]`` each (RFC 6454).
    timeout : float
        Seconds for one login or renewal, all its attempts included.
    max_connections : int
        The most connections to an origin that the package's own functions open in this process.

    Raises
    ------
    SettingsError
        If a value is malformed, or names ``http://`` on a host that is not this machine:
        the password or token would cross the network in the clear.

    Examples
    --------
    >>> Settings().origins
    ('https://services.terrascope.be',)
    """

    token_url: str = TOKEN_URL
    client_id: str = CLIENT_ID
    origins: tuple[str, ...] = ORIGINS
    timeout: float = TIMEOUT
    max_connections: int = MAX_CONNECTIONS

    def __post_init__(self) -> None:
        token_url = _split(self.token_url, "the token URL")
        if token_url.fragment:
            raise SettingsError(f"the token URL {self.token_url!r} has a fragment (#...). Leave it out.")
        if not self.client_id.strip() or not self.client_id.isprintable():
            raise SettingsError("the client id is empty or unprintable. Terrascope's own is 'public'.")
        if isinstance(self.origins, str):
            raise SettingsError("origins is one string; give a sequence of 'scheme://host[:port]'.")
        # dict.fromkeys: an origin named twice counts once, order kept
        origins = tuple(dict.fromkeys(_parse_origin(origin) for origin in self.origins))
        if not origins:
            raise SettingsError("no origin is set, so the token could go nowhere. Name at least one.")
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise SettingsError(f"the timeout is {self.timeout!r}; give a number of seconds above 0.")
        if not (isinstance(self.max_connections, int) and self.max_connections > 0):
            raise SettingsError(f"max_connections is {self.max_connections!r}; give a whole number above 0.")
        object.__setattr__(self, "origins", origins)

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str] | Variables | None = None,
        *,
        token_url: str | None = None,
        client_id: str | None = None,
        origins: Iterable[str] | None = None,
        timeout: float | None = None,
        max_connections: int | None = None,
    ) -> "Settings":
        """Read the variables that begin with TERRASCOPE; arguments win.

        They are TERRASCOPE_TOKEN_URL, TERRASCOPE_CLIENT_ID, TERRASCOPE_ORIGINS, TERRASCOPE_TIMEOUT and
        TERRASCOPE_MAX_CONNECTIONS.

        Parameters
        ----------
        environ : mapping, optional
            The environment to read instead of ``os.environ``.
        token_url, client_id, origins, timeout, max_connections : optional
            As in the class; each replaces its variable.

        Returns
        -------
        Settings

        Raises
        ------
        SettingsError
            As the class does.
        """
        environ = Variables(environ)
        if timeout is None:
            given = environ.get("TERRASCOPE_TIMEOUT") or str(TIMEOUT)
            try:
                timeout = float(given)
            except ValueError:
                raise SettingsError(
                    f"TERRASCOPE_TIMEOUT is {given!r}; give a number of seconds above 0."
                ) from None
        if origins is None:
            named = environ.get("TERRASCOPE_ORIGINS", "")
            origins = [origin for part in named.split(",") if (origin := part.strip())] or ORIGINS
        return cls(
            token_url=token_url or environ.get("TERRASCOPE_TOKEN_URL") or TOKEN_URL,
            client_id=client_id or environ.get("TERRASCOPE_CLIENT_ID") or CLIENT_ID,
            origins=tuple(origins),
            timeout=timeout,
            max_connections=max_connections_from(environ) if max_connections is None else max_connections,
        )

    @property
    def token_host(self) -> str:
        """Host of the token endpoint, as messages and ~/.netrc name it."""
        return urlsplit(self.token_url).hostname or ""

    def covers(self, url: str) -> bool:
        """Tell whether a URL or ``/vsicurl/`` path is at one of the origins, so that the token goes there.

        The comparison is the one that GDAL makes for a path-specific option, a prefix of the
        path to the letter; see :func:`url_prefixes`.
        """
        if url.startswith("/vsicurl/"):
            path = url.removeprefix("/vsicurl/")
        else:  # rasterio turns the scheme of a URL, and nothing else of it, into lower case
            scheme, separator, rest = url.partition("://")
            path = scheme.lower() + separator + rest
        return any(path.startswith(prefix) for origin in self.origins for prefix in url_prefixes(origin))


def max_connections_from(environ: Mapping[str, str] | Variables | None = None) -> int:
    """Return the value of TERRASCOPE_MAX_CONNECTIONS, or its default.

    Raises
    ------
    SettingsError
        If it is not a whole number above 0.
    """
    given = Variables(environ).get("TERRASCOPE_MAX_CONNECTIONS") or str(MAX_CONNECTIONS)
    if not (given.isascii() and given.isdecimal() and int(given) > 0):
        raise SettingsError(f"TERRASCOPE_MAX_CONNECTIONS is {given!r}; give a whole number above 0.")
    return int(given)


def url_prefixes(origin: str) -> tuple[str, ...]:
    """Give the beginnings of all URLs at an origin: with its port, and without where it is the default.

    >>> url_prefixes("https://services.terrascope.be")
    ('https://services.terrascope.be/', 'https://services.terrascope.be:443/')
    """
    parts = urlsplit(origin)
    if parts.port is None:
        return (f"{origin}/", f"{origin}:{_DEFAULT_PORTS[parts.scheme]}/")
    return (f"{origin}/",)


def stays_here(url: str) -> bool:
    """Tell whether a URL is ``http://`` to this machine: secrets in it must not go through a proxy.

    HTTP_PROXY would have them cross the network in the clear, and the proxy's own loopback is not ours.
    """
    parts = urlsplit(url)
    return parts.scheme == "http" and _is_loopback(parts.hostname or "")


def shown(text: str) -> str:
    """Return a text with its URLs cut to host and path: passwords and queries may be secrets.

    >>> shown("https://me:secret@host.example/a.tif?X-Amz-Signature=1 was refused")
    'https://host.example/a.tif was refused'
    """
    return _URL.sub(_without_secrets, text)


def _without_secrets(found: re.Match[str]) -> str:
    scheme, host, path = found["scheme"], found["host"].rpartition("@")[2], found["path"]
    if "@" in path and not re.fullmatch(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d+)?", host):
        return f"{scheme}***"  # a password with a slash in it
    return scheme + host + path


def checked_url(url: str, what: str) -> str:
    """Return a URL as it is, if what goes there and comes from there is safe on the way.

    Parameters
    ----------
    url : str
    what : str
        What it is, for the message.

    Raises
    ------
    SettingsError
        If it is malformed, holds a password, or is ``http://`` to another machine.
    """
    _split(url, what)
    return url


def _parse_origin(origin: str) -> str:
    """Return an origin in lower case and without its scheme's default port."""
    parts = _split(origin, "the origin")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise SettingsError(f"the origin {origin!r} has a path. Give scheme://host[:port] alone.")
    host = parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc.removesuffix(":")
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host.lower()}{port}"


def _split(url: str, what: str) -> SplitResult:
    """Split a URL that has to be safe on the way, or say what is wrong with it."""
    shown = repr(url.rpartition("@")[2])  # what stands before an @ may be a password
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
        # urlsplit drops tabs and newlines without a word, so look at what was given
        if not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError("it holds a space or a character outside ASCII")
    except ValueError as error:
        said = "the part around its @ cannot be understood" if "@" in url else error
        raise SettingsError(f"{what} is malformed: {said}.") from None
    if "@" in parts.netloc:
        raise SettingsError(f"{what} holds a user name or password (user@host). Give the host alone.")
    if parts.scheme not in ("http", "https") or not host:
        raise SettingsError(f"{what} {shown} is not an https:// URL.")
    bracketed = f"[{host}]" if ":" in host else host
    if not _HOST.fullmatch(bracketed):
        raise SettingsError(f"{what} {shown} has a malformed host name.")
    if parts.scheme == "http" and not _is_loopback(host):
        raise SettingsError(
            f"{what} {shown} is http://, which others on the way can read and change. "
            "Use https:// (http:// is for a server on this machine only)."
        )
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
