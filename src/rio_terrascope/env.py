"""`terrascope_env`: the block inside which rasterio reads Terrascope's protected files."""

import atexit
import contextlib
import os
import threading
import warnings
from types import TracebackType
from typing import Any

import rasterio
import rasterio.env
from rasterio.errors import EnvError, RasterioIOError

from rio_terrascope import certificates
from rio_terrascope.auth.oidc import Token
from rio_terrascope.auth.tokens import TokenSource
from rio_terrascope.errors import AccessDeniedError, SettingsError, TerrascopeError, TerrascopeWarning
from rio_terrascope.gdal import cache, libgdal
from rio_terrascope.gdal.opening import open_whole
from rio_terrascope.gdal.options import HEADERS, PATH_OPTIONS, PROCESS_OPTIONS, as_text, without_authorization
from rio_terrascope.refusals import Refusal, refusal_of, servers_reason
from rio_terrascope.registry import Scope, Entry, registry, refuse_s3_redirect, vsi_prefixes
from rio_terrascope.settings import Settings


def terrascope_env(
    username: str | None = None,
    password: str | None = None,
    *,
    settings: Settings | None = None,
    tokens: TokenSource | None = None,
    scope: Scope = "origins",
    **gdal_options: Any,
) -> "TerrascopeEnv":
    """Give rasterio access to Terrascope's protected files for the length of a ``with`` block.

    Parameters
    ----------
    username, password : str, optional
        Where not given: TERRASCOPE_USERNAME and TERRASCOPE_PASSWORD, then the login that ``tsread login``
        has saved, then ``~/.netrc``.
    settings : Settings, optional
        Where to log in, and where the token may go; read from the environment where not given.
    tokens : TokenSource, optional
        A login to use instead of a username and password.
    scope : {"origins", "env"}
        "origins": the token goes to the settings' origins only, in every thread, and datasets
        that stay open keep reading however often it is renewed. "env": the token is an option
        (GDAL_HTTP_HEADERS) of a plain `rasterio.Env`; it goes to every host that GDAL contacts
        in the block, and a dataset keeps the one it was opened with.
    **gdal_options
        Options for `rasterio.Env`; they win over the read options that are chosen here.

    Returns
    -------
    TerrascopeEnv
        A context manager. Entering logs in, or joins the login of the same account that is
        active in the process.

    Raises
    ------
    SettingsError
        If a setting, the scope, or an option cannot be used; on entering also if there is no
        private folder to keep the token in.

    See Also
    --------
    TerrascopeEnv : what entering raises.

    Examples
    --------
    >>> with terrascope_env():  # doctest: +SKIP
    ...     with rasterio.open(url) as src:
    ...         pixels = src.read(1, window=window)
    """
    return TerrascopeEnv(username, password, settings=settings, tokens=tokens, scope=scope, **gdal_options)


class TerrascopeEnv(rasterio.Env):
    """A `rasterio.Env` with access to Terrascope; made by `terrascope_env`, which tells its parameters.

    It may be entered any number of times, from any thread, and nested.

    Raises
    ------
    CredentialsNotFoundError
        On entering: no username and password were found.
    InvalidCredentialsError
        On entering: they were refused. They are sent once.
    TokenEndpointError
        On entering: the login service cannot be reached, or does not answer with a token.
    AccountConflictError
        On entering: another account is reading from one of the origins in this process.
    """

    # True where it is not one block's login but the process's, as on a Dask worker: code that names
    # no account joins it, instead of looking for credentials which are not there, or another's.
    _standing = False

    def __init__(
        self,
        username: str | None = None,
        password: str | None = None,
        *,
        settings: Settings | None = None,
        tokens: TokenSource | None = None,
        scope: Scope = "origins",
        **gdal_options: Any,
    ) -> None:
        if scope not in ("origins", "env"):
            raise SettingsError(f"scope is {scope!r}; it can be 'origins' or 'env'.")
        reason = libgdal.why_not_scoped()
        if scope == "origins" and reason is not None:
            warnings.warn(
                f"{reason}, so the token cannot be confined to Terrascope: inside this block every host "
                "that GDAL contacts receives it (scope='env'). Next: install rasterio >= 1.4 from PyPI.",
                TerrascopeWarning,
                stacklevel=3,
            )
            scope = "env"
        self._given = {key.upper(): as_text(value) for key, value in gdal_options.items()}
        if scope == "origins":
            refuse_s3_redirect(self._given)
        super().__init__(**gdal_options)
        self._username, self._password, self._tokens = username, password, tokens
        self._env_arguments = gdal_options
        source = tokens or self._standing_tokens()
        self.settings = settings or (source.settings if source else Settings.from_environ())
        self.scope: Scope = scope
        self._entries: list[Entry] = []  # one for each time it was entered and not left yet
        self._here = threading.local()  # the plain Envs entered in each thread

    def __repr__(self) -> str:
        state = "entered" if self._entries else "not entered"
        return f"<TerrascopeEnv for {', '.join(self.settings.origins)}, scope={self.scope!r}, {state}>"

    def __enter__(self) -> "TerrascopeEnv":
        tokens = (
            self._tokens
            or self._standing_tokens(self.settings)
            or TokenSource(self._username, self._password, settings=self.settings)
        )
        entry = registry.enter(self.settings, self.scope, self._given, tokens, standing=self._standing)
        try:
            # A plain Env for each entry, instead of super().__enter__(): an Env keeps the outer
            # options on itself, so the same one cannot be entered twice.
            plain = rasterio.Env(**self._plain_options(entry))
            plain.__enter__()
        except BaseException:
            registry.leave(entry)
            raise
        self._entries.append(entry)
        self._plain_envs().append(plain)
        _entered.append(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        entry = self._entries.pop()
        _entered.remove(self)
        try:
            if self._plain_envs():  # empty where another thread than the one that entered leaves
                plain = self._plain_envs().pop()
                # an Env that was entered earlier may have been left first, and took GDAL's with it
                with contextlib.suppress(EnvError):
                    plain.__exit__(exc_type, exc_val, exc_tb)
        finally:
            registry.leave(entry)

    def _standing_tokens(self, settings: Settings | None = None) -> TokenSource | None:
        """Find the process's own login, for who names no account."""
        return None if self._username or self._password else registry.standing(settings)

    @property
    def tokens(self) -> TokenSource:
        """The source of tokens of the login in use.

        Raises
        ------
        TerrascopeError
            If the env is not entered.
        """
        try:
            return self._entries[-1].login.tokens
        except IndexError:
            raise TerrascopeError("not logged in: use the env in a 'with' statement first.") from None

    @property
    def token(self) -> Token:
        """The current token, a valid one.

        Raises
        ------
        InvalidCredentialsError, TokenEndpointError
            If it has expired and cannot be renewed.
        """
        return self.tokens.get()

    def refresh(self) -> Token:
        """Get a new token now, and let GDAL forget the answers that the old one got.

        With scope="env" what is opened next in this thread uses it.

        Raises
        ------
        InvalidCredentialsError, TokenEndpointError
            If none can be had.
        """
        return self._refresh(None)

    def _refresh(self, stale: Token | None) -> Token:
        token = self.tokens.refresh(stale)
        if self.scope == "env" and self._plain_envs():
            rasterio.env.setenv(**self._header_option(token))
        self.forget()
        return token

    def forget(self, url: str | None = None) -> None:
        """Let GDAL forget what it keeps of a URL, or of all at the origins: bytes, and that an open failed.

        To be called after a read that failed, before it is tried again: what came of a piece of the
        file before the connection broke is kept for the whole, and fails again without a request.
        `refresh`, and leaving the env, forget as well.

        Parameters
        ----------
        url : str, optional
            The beginning of URLs is enough.
        """
        for path in vsi_prefixes(self.settings) if url is None else [url]:
            cache.forget(path)

    def open(self, fp: Any, *args: Any, **kwargs: Any) -> Any:
        """Open a dataset as `rasterio.open` does, and recover once from a login that has lapsed.

        Where a URL of the origins answers 401, or with a login page, the token is renewed, GDAL's
        memory of the failure cleared, and the URL opened once more. So it is where the connection
        breaks in the middle of the header: GDAL would open what came, without its georeferencing.

        Parameters
        ----------
        fp, *args, **kwargs
            As for `rasterio.open`.

        Returns
        -------
        rasterio.DatasetReader or other dataset object

        Raises
        ------
        AccessDeniedError
            If the URL is refused all the same, or answers 403.
        InvalidCredentialsError, TokenEndpointError
            If there is no valid token and none can be had.
        rasterio.errors.RasterioIOError
            For anything else: 404, a server in trouble, a file that is no raster.
        """
        if not (isinstance(fp, str) and self.settings.covers(fp)):
            return rasterio.open(fp, *args, **kwargs)
        token = self.tokens.get()
        first = self._try_open(fp, token, *args, **kwargs)
        if not isinstance(first, Refusal):
            return first
        if first.lapsed:
            second = self._try_open(fp, self._refresh(token), *args, **kwargs)
            if not isinstance(second, Refusal):
                return second
            first = second
        said = servers_reason(fp, first.token)
        raise AccessDeniedError(
            f"{fp} was refused: {first.reason}{said}, although the login is valid. Next: open it in a "
            "browser where you are logged in to Terrascope, and accept its licence or ask for access there; "
            "after that, env.refresh() and try again."
        )

    def _try_open(self, url: str, token: Token, *args: Any, **kwargs: Any) -> Any:
        """Open a URL; a refusal is returned, other trouble raised."""
        option = self._header_option(token) if self.scope == "env" else {}
        try:
            with rasterio.Env(**option) if option else contextlib.nullcontext():
                return open_whole(url, *args, **kwargs)
        except RasterioIOError as error:
            cache.forget(url)  # or the next open would fail from memory
            refusal = refusal_of(error, url, token)
            if refusal is None:
                if advice := certificates.advice_for_gdal(str(error)):
                    error.add_note(f"Next: {advice}.")
                raise
        return refusal

    def _plain_envs(self) -> list[rasterio.Env]:
        envs: list[rasterio.Env] = self._here.__dict__.setdefault("envs", [])
        return envs

    def _plain_options(self, entry: "Entry") -> dict[str, Any]:
        """Return what the plain Env of one entry is made with."""
        if self.scope == "origins":
            # an option that is set for the process must not be one of the Env's as well:
            # an inner Env, when left, would clear it
            return {k: v for k, v in self._env_arguments.items() if k.upper() not in PROCESS_OPTIONS}
        options = {
            key: value for key, value in (PATH_OPTIONS | PROCESS_OPTIONS).items() if not _is_configured(key)
        }
        if bundle := certificates.for_gdal():
            options[bundle.gdal_option] = bundle.path
        return options | self._env_arguments | self._header_option(entry.login.tokens.get())

    def _header_option(self, token: Token) -> dict[str, str]:
        """Return GDAL_HTTP_HEADERS with the token, and the user's own headers before it."""
        own = without_authorization(self._given.get(HEADERS, ""))
        return {HEADERS: ",".join(filter(None, [own, f"Authorization: Bearer {token.access_token}"]))}


_entered: list[TerrascopeEnv] = []  # by all threads, the newest last


def active_env(url: str | None = None) -> TerrascopeEnv | None:
    """Return the newest env that is entered in this process and covers a URL, if one is given."""
    for env in reversed(_entered.copy()):
        if url is None or env.settings.covers(url):
            return env
    return None


def login(
    username: str | None = None,
    password: str | None = None,
    *,
    settings: Settings | None = None,
    tokens: TokenSource | None = None,
    scope: Scope = "origins",
    **gdal_options: Any,
) -> TerrascopeEnv:
    """Enter a `terrascope_env` now and stay in it until `logout`, or the end of the process: for notebooks.

    To call it again for the same account keeps the login and all open datasets.

    Parameters
    ----------
    username, password, settings, tokens, scope, **gdal_options
        As for `terrascope_env`.

    Returns
    -------
    TerrascopeEnv
        Entered; its ``open`` and ``refresh`` are at hand.

    Raises
    ------
    SettingsError, CredentialsNotFoundError, InvalidCredentialsError, TokenEndpointError, AccountConflictError
        As entering a `TerrascopeEnv` does.
    """
    env = TerrascopeEnv(username, password, settings=settings, tokens=tokens, scope=scope, **gdal_options)
    del password  # from the frame, which tools that print local variables would show
    env.__enter__()
    if not _until_logout:
        atexit.register(logout)
    _until_logout.append(env)
    return env


def logout() -> None:
    """Leave what `login` entered; nothing of it stays. Does nothing where there is no login."""
    while _until_logout:
        _until_logout.pop().__exit__()
    atexit.unregister(logout)


_until_logout: list[TerrascopeEnv] = []


def _is_configured(key: str) -> bool:
    """Tell whether an option is set already, by an enclosing Env or the environment."""
    return key in os.environ or (rasterio.env.hasenv() and key in rasterio.env.getenv())
