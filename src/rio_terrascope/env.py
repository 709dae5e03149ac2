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

from rio_terrascope.auth.oidc import Token
from rio_terrascope.auth.tokens import TokenSource
from rio_terrascope.errors import (
    AccessDeniedError,
    SettingsError,
    TerrascopeError,
    TerrascopeWarning,
    with_next_step,
)
from rio_terrascope.gdal import cache, libgdal, messages
from rio_terrascope.gdal.opening import open_whole
from rio_terrascope.gdal.options import (
    HEADERS,
    PROCESS_OPTIONS,
    as_text,
    choose_read_options,
    refuse_s3_redirect,
    vsi_prefixes,
    without_authorization,
)
from rio_terrascope.refusals import find_refusal, servers_reason
from rio_terrascope.registry import Entry, Scope, registry
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
        The account. If not given, they come from TERRASCOPE_USERNAME and TERRASCOPE_PASSWORD, else from
        the login that ``tsread login`` has saved, else from ``~/.netrc``.
    settings : Settings, optional
        The token endpoint and the origins; read from the environment if not given.
    tokens : TokenSource, optional
        A login to use instead of a username and password.
    scope : {"origins", "env"}
        "origins": only the settings' origins receive the token, in every thread, and open datasets
        keep reading however often it is renewed. "env": the token is an option (GDAL_HTTP_HEADERS)
        of a plain `rasterio.Env`. Every host that GDAL contacts inside the block receives it, and a
        dataset keeps the token that it was opened with.
    **gdal_options
        Options for `rasterio.Env`. They win over the read options that this package chooses.

    Returns
    -------
    TerrascopeEnv
        A context manager. Entering it logs in, or joins the login of the same account that is
        active in the process.

    Raises
    ------
    SettingsError
        If a setting, the scope, or an option cannot be used. For the errors of entering, see
        `TerrascopeEnv`.

    Examples
    --------
    >>> with terrascope_env():  # doctest: +SKIP
    ...     with rasterio.open(url) as src:
    ...         pixels = src.read(1, window=window)
    """
    return TerrascopeEnv(username, password, settings=settings, tokens=tokens, scope=scope, **gdal_options)


class TerrascopeEnv(rasterio.Env):
    """A `rasterio.Env` with access to Terrascope. `terrascope_env` makes it and describes its parameters.

    It may be entered any number of times, from any thread, and nested.

    Raises
    ------
    CredentialsNotFoundError
        On entering: no username and password were found.
    InvalidCredentialsError
        On entering: the username and password were refused. They are sent once.
    TokenEndpointError
        On entering: the login service cannot be reached, or does not answer with a token.
    AccountConflictError
        On entering: another account is reading from one of the origins in this process.
    SettingsError
        On entering: there is no private folder to keep the token in.
    """

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
                with_next_step(
                    f"{reason}, so the token cannot be confined to Terrascope: inside this block every host "
                    "that GDAL contacts receives it (scope='env')",
                    "install rasterio >= 1.4 from PyPI",
                ),
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
        source = tokens or self._process_login()
        self.settings = settings or (source.settings if source else Settings.from_environ())
        self.scope: Scope = scope
        self._entries: list[Entry] = []  # the newest last
        self._here = threading.local()  # the plain Envs entered in each thread

    def __repr__(self) -> str:
        state = "entered" if self._entries else "not entered"
        return f"<TerrascopeEnv for {', '.join(self.settings.origins)}, scope={self.scope!r}, {state}>"

    def __enter__(self) -> "TerrascopeEnv":
        return self._enter(for_process=False)

    def enter_for_process(self) -> "TerrascopeEnv":
        """Enter for all code in the process: code that names no account then joins this login."""
        return self._enter(for_process=True)

    def _enter(self, *, for_process: bool) -> "TerrascopeEnv":
        tokens = (
            self._tokens
            or self._process_login(self.settings)
            or TokenSource(self._username, self._password, settings=self.settings)
        )
        entry = registry.enter(self.settings, self.scope, self._given, tokens, for_process=for_process)
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
            if self._plain_envs():  # empty if another thread leaves than the one that entered
                plain = self._plain_envs().pop()
                # an Env that was entered earlier may have been left first, and removed GDAL's options
                with contextlib.suppress(EnvError):
                    plain.__exit__(exc_type, exc_val, exc_tb)
        finally:
            registry.leave(entry)

    def _process_login(self, settings: Settings | None = None) -> TokenSource | None:
        """Return the process's own login, unless the user has named an account."""
        return None if self._username or self._password else registry.process_login(settings)

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
        """A token that is valid now.

        Raises
        ------
        InvalidCredentialsError, TokenEndpointError
            If the last token has expired and cannot be renewed.
        """
        return self.tokens.get()

    def refresh(self) -> Token:
        """Get a new token now, and clear the answers to the old one from GDAL's cache.

        With scope="env", datasets that this thread opens from now on use the new token.

        Raises
        ------
        InvalidCredentialsError, TokenEndpointError
            If the login service gives no new token.
        """
        return self._refresh(None)

    def _refresh(self, stale: Token | None) -> Token:
        token = self.tokens.refresh(stale)
        if self.scope == "env" and self._plain_envs():
            rasterio.env.setenv(**self._header_option(token))
        self.forget()
        return token

    def forget(self, url: str | None = None) -> None:
        """Clear GDAL's cache for a URL, or for all configured origins: cached bytes, remembered failures.

        Call it after a failed read, before you try again. If a connection breaks, GDAL takes the part
        that has arrived for the whole, and fails again without a request. `refresh`, and leaving the
        env, clear the cache too.

        Parameters
        ----------
        url : str, optional
            A URL, or the beginning of several.
        """
        for path in vsi_prefixes(self.settings) if url is None else [url]:
            cache.forget(path)

    def open(self, fp: Any, *args: Any, **kwargs: Any) -> Any:
        """Open a dataset as `rasterio.open` does, and recover once from a login that has lapsed.

        If a URL of the origins answers 401, or with a login page, `open` renews the token and opens the
        URL again. It also does so if the connection breaks inside the header (see `open_whole`).

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
            If the URL is refused again, or answers 403.
        InvalidCredentialsError, TokenEndpointError
            If there is no valid token, and the login service gives none.
        rasterio.errors.RasterioIOError
            For anything else: 404, a server in trouble, a file that is not a raster.
        """
        if not (isinstance(fp, str) and self.settings.covers(fp)):
            return open_whole(fp, *args, **kwargs)
        token = self.tokens.get()
        refreshed = False
        while True:
            try:
                return self._open_with(token, fp, *args, **kwargs)
            except RasterioIOError as error:
                refusal = find_refusal(error, fp, token)
                if refusal is None:
                    raise
            if refreshed or not refusal.lapsed:
                break
            token, refreshed = self._refresh(token), True
        raise AccessDeniedError(
            f"{fp} was refused: {refusal.answer}{servers_reason(fp, token)}, although the login is valid",
            next_step="open it in a browser where you are logged in to Terrascope, and accept its licence "
            "or ask for access there; after that, env.refresh() and try again",
            url=fp,
            status=refusal.status,
        )

    def _open_with(self, token: Token, url: str, *args: Any, **kwargs: Any) -> Any:
        option = self._header_option(token) if self.scope == "env" else {}
        self._entries[-1].login.put_back()
        try:
            with rasterio.Env(**option) if option else contextlib.nullcontext():
                return open_whole(url, *args, **kwargs)
        except RasterioIOError as error:
            cache.forget(url)  # or the next open would fail from the cache
            messages.add_certificate_advice(error)
            raise

    def _plain_envs(self) -> list[rasterio.Env]:
        envs: list[rasterio.Env] = self._here.__dict__.setdefault("envs", [])
        return envs

    def _plain_options(self, entry: Entry) -> dict[str, Any]:
        """Return the options of the plain Env of one entry."""
        if self.scope == "origins":
            # an option that is set for the process must not be one of the Env's as well:
            # an inner Env, when left, would clear it
            return {k: v for k, v in self._env_arguments.items() if k.upper() not in PROCESS_OPTIONS}
        options = choose_read_options(self._given, _configured)
        return (
            options.per_path
            | options.for_process
            | self._env_arguments
            | self._header_option(entry.login.tokens.get())
        )

    def _header_option(self, token: Token) -> dict[str, str]:
        """Return GDAL_HTTP_HEADERS with the token, and the user's own headers before it."""
        own = without_authorization(self._given.get(HEADERS, ""))
        return {HEADERS: ",".join(filter(None, [own, f"Authorization: Bearer {token.access_token}"]))}


_entered: list[TerrascopeEnv] = []  # by all threads, the newest last


def active_env(url: str | None = None) -> TerrascopeEnv | None:
    """Return the newest env that is entered in this process and, if a URL is given, covers it."""
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
    """Enter a `terrascope_env` until `logout`, or until the process ends. For notebooks.

    A second call for the same account keeps the login and all open datasets.

    Parameters
    ----------
    username, password, settings, tokens, scope, **gdal_options
        As for `terrascope_env`.

    Returns
    -------
    TerrascopeEnv
        Entered: its ``open`` and ``refresh`` can be used.

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
    """Leave all envs that `login` has entered. Without a login, this does nothing."""
    while _until_logout:
        _until_logout.pop().__exit__()
    atexit.unregister(logout)


_until_logout: list[TerrascopeEnv] = []


def _configured(key: str) -> str | None:
    """Return an option that an enclosing Env or the environment has set."""
    if rasterio.env.hasenv() and key in rasterio.env.getenv():
        return as_text(rasterio.env.getenv()[key])
    return os.environ.get(key)
