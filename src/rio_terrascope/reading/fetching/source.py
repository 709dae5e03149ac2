"""`Source`: one remote file, and what its answers have told so far."""

from collections.abc import Mapping

from rasterio.errors import RasterioIOError

from rio_terrascope.auth.oidc import Token
from rio_terrascope.env import active_env
from rio_terrascope.gdal.options import vsi_path
from rio_terrascope.http import Answer
from rio_terrascope.opening.look import origin_of
from rio_terrascope.reading.fetching.options import options_for
from rio_terrascope.secret import also_half_made
from rio_terrascope.settings import max_connections_from, shown


class Source:
    """One remote file, as a `Fetcher` sees it. `Fetcher.open` makes it.

    Parameters
    ----------
    url : str
        ``http(s)://...``, or a path that begins with ``/vsicurl/``.

    Attributes
    ----------
    url : str
        As it was given.
    asked : str
        The URL that requests begin with.
    target : str or None
        Where redirects led to.
    size : int or None
        Bytes of the file; None before its first answer.
    untried : Token or None
        The token that a refusal was answered with. If it is refused too, another one is of no use.

    Raises
    ------
    rasterio.errors.RasterioIOError
        If it is not an ``http(s)://`` URL, or malformed.
    SettingsError
        If TERRASCOPE_MAX_CONNECTIONS cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.size: int | None = None
        self.target: str | None = None
        self.untried: Token | None = None
        try:
            self.asked = vsi_path(url).removeprefix("/vsicurl/")
            self.origin = origin_of(self.asked)
        except ValueError:
            raise RasterioIOError(f"{shown(url)}: this is not a valid http(s):// URL") from None
        self.env = active_env(url)
        newest = active_env()
        self.options = options_for(
            self.asked,
            covered=self.env is not None,
            secret_headers=newest is not None and newest.scope == "env",
        )
        self.most = self.env.settings.max_connections if self.env else max_connections_from()
        self._said: dict[str, str | int] = {}

    @also_half_made
    def __repr__(self) -> str:
        return f"<Source {shown(self.url)}>"

    def __reduce__(self) -> str:
        raise TypeError("a Source cannot be pickled: its options may hold credentials")

    def token_for(self, url: str) -> Token | None:
        """Return the token that a request for a URL is sent with: at the file's own origin only.

        Raises
        ------
        TerrascopeError
            If there is no valid token, and none can be had.
        """
        if self.env is None or origin_of(url) != self.origin:
            return None
        return self.env.tokens.get()

    def headers_for(self, url: str) -> dict[str, str]:
        """Return the headers of a request for a URL, without the range and the token."""
        headers: dict[str, str] = {"Accept-Encoding": "identity"}
        if self.options.user_agent:
            headers["User-Agent"] = self.options.user_agent
        if origin_of(url) == self.origin:
            more: Mapping[str, object] = self.options.headers
            headers |= more  # type: ignore[arg-type]
        return headers

    def why_another(self, answer: Answer, size: int) -> str | None:
        """Say how an answer is of another file than the earlier ones; None if it is of the same."""
        for name, value in (
            ("size", size),
            ("ETag", answer.headers.get("ETag")),
            ("Last-Modified", answer.headers.get("Last-Modified")),
        ):
            if value is not None and self._said.setdefault(name, value) != value:
                return name
        self.size = size
        return None
