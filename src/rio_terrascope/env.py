"""`terrascope_env`: the block inside which rasterio reads Terrascope's protected files."""

import contextlib
import os
import warnings
from types import TracebackType
from typing import Any

import rasterio
import rasterio.env

from rio_terrascope.auth.oidc import Token
from rio_terrascope.auth.tokens import TokenSource
from rio_terrascope.errors import (
    SettingsError,
    TerrascopeError,
    TerrascopeWarning,
    with_next_step,
)
from rio_terrascope.gdal import libgdal
from rio_terrascope.gdal.opening import open_whole
from rio_terrascope.gdal.options import (
    GUARDS,
    HEADERS,
    PROCESS_OPTIONS,
    as_text,
    choose_read_options,
    vsi_prefixes,
    warn_of_risks,
    with_authorization,
)
from rio_terrascope.gdal.plain_env import PlainEnv
from rio_terrascope.opening import look
from rio_terrascope.opening.refusals import Refusal, access_denied, servers_reason
from rio_terrascope.opening.urls import try_to_open
from rio_terrascope.registry import Entry, PutRight, Scope, registry, to_the_end
from rio_terrascope.secret import Secret, SecretText, also_half_made
from rio_terrascope.settings import Settings


def terrascope_env(
    username: str | None = None,
    password: str | Secret | None = None,
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
    password = Secret.of(password)  # from here on, tools that print local variables do not show it
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
    """

    def __init__(
        self,
        username: str | None = None,
        password: str | Secret | None = None,
        *,
        settings: Settings | None = None,
        tokens: TokenSource | None = None,
        scope: Scope = "origins",
        **gdal_options: Any,
    ) -> None:
        password = Secret.of(password)
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
        super().__init__(**gdal_options)
        self._username, self._password, self._tokens = username, password, tokens
        self._env_arguments = gdal_options
        source = tokens or self._process_login()
        self.settings = settings or (source.settings if source else Settings.from_environ())
        self.scope: Scope = scope
        self._entries: list[Entry] = []  # the newest last

    @also_half_made
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
        warn_of_risks(
            lambda key: self._given.get(key) or registry.configured(key),
            guarded=self.scope == "origins",
            stacklevel=3,
        )
        entry = registry.enter(self.settings, self.scope, self._given, tokens, for_process=for_process)
        try:
            # A plain Env for each entry, instead of super().__enter__(): an Env keeps the outer
            # options on itself, so the same one cannot be entered twice.
            entry.plain = PlainEnv(self._plain_options(entry))
            entry.plain.enter()
            self._entries.append(entry)
            _entered.append(self)
        except BaseException:  # Ctrl-C may come after any step, the last one included
            to_the_end(lambda: self._leave(entry))
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        entry = None
        try:
            entry = self._newest_here()
            self._leave(entry)
        except (KeyboardInterrupt, SystemExit):
            to_the_end(lambda: self._leave(entry or self._newest_here()))
            raise

    def _newest_here(self) -> Entry:
        """Return the newest entry of this thread; without one, the newest of any thread."""
        mine = [entry for entry in self._entries if entry.plain and entry.plain.is_of_this_thread]
        return (mine or self._entries)[-1]

    def _leave(self, entry: Entry) -> None:
        """Leave what was entered for one entry. May be called again after any of its steps."""
        try:
            if entry.plain is not None:
                entry.plain.leave()
        finally:
            if entry in self._entries:
                self._entries.remove(entry)
            if _entered.count(self) > len(self._entries):
                _entered.remove(self)
            for prefix in vsi_prefixes(self.settings):
                look.forget(prefix)
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
        self._put_right(token)
        self.forget()
        return token

    def _put_right(self, token: Token) -> None:
        """Set again what may have changed since, and with scope="env" this thread's token."""
        self._entries[-1].login.put_right()
        if self.scope == "env" and self._is_entered_here:
            rasterio.env.setenv(**self._header_option(token))

    @property
    def _is_entered_here(self) -> bool:
        return rasterio.env.hasenv() and any(
            entry.plain and entry.plain.is_of_this_thread for entry in self._entries
        )

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
            look.forget(path)

    def open(self, fp: Any, *args: Any, **kwargs: Any) -> Any:
        """Open a dataset as `rasterio.open` does, and recover once from a login that has lapsed.

        If a URL of the origins answers 401, or with a login page, `open` renews the token and opens the
        URL again. It also does so if the connection breaks inside the header (see `open_whole`).

        If the URL redirects to another host, `open` opens the target, without the token. It looks where a
        URL leads with one request, and remembers that for a minute. The dataset's name is the URL.

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
        dataset, refusal = self._try_to_open(token, fp, *args, **kwargs)
        if refusal is not None and refusal.lapsed:
            token = self._refresh(token)
            dataset, refusal = self._try_to_open(token, fp, *args, **kwargs)
        if refusal is None:
            return dataset
        raise access_denied(fp, refusal, servers_reason(fp, token))

    def _try_to_open(self, token: Token, url: str, *args: Any, **kwargs: Any) -> tuple[Any, Refusal | None]:
        """Open a URL. Return the dataset, or how the server has refused it."""
        self._put_right(token)
        confined = self.scope == "origins"
        option = {} if confined or self._is_entered_here else self._header_option(token)
        with rasterio.Env(**option) if option else contextlib.nullcontext():
            return try_to_open(url, token, self.settings if confined else None, *args, **kwargs)

    def _plain_options(self, entry: Entry) -> dict[str, Any]:
        """Return the options of the plain Env of one entry."""
        if self.scope == "origins":
            # an option that is set for the process must not be one of the Env's as well:
            # an inner Env, when left, would clear it
            not_ours = {**PROCESS_OPTIONS, **GUARDS}
            own = {k: v for k, v in self._env_arguments.items() if k.upper() not in not_ours}
            # an enclosing Env's values come back whenever an inner Env is left, unless these replace them
            enclosing = set(map(str.upper, rasterio.env.getenv() if rasterio.env.hasenv() else ()))
            guards = {key: value for key, value in GUARDS.items() if key in enclosing}
            # a name that rasterio itself sets, and GDAL does not know
            return own | guards | {"RASTERIO_ENV": PutRight()}
        options = choose_read_options(self._given, _configured)
        return (
            options.per_path
            | options.for_process
            | {k: v for k, v in self._env_arguments.items() if k.upper() != HEADERS}
            | self._header_option(entry.login.tokens.get())
        )

    def _header_option(self, token: Token) -> dict[str, SecretText]:
        """Return GDAL_HTTP_HEADERS with the token, and the user's own headers before it."""
        return {HEADERS: SecretText(with_authorization(self._given.get(HEADERS, ""), token.access_token))}


_entered: list[TerrascopeEnv] = []  # by all threads, the newest last


def active_env(url: str | None = None) -> TerrascopeEnv | None:
    """Return the newest env that is entered in this process and, if a URL is given, covers it."""
    for env in reversed(_entered.copy()):
        if url is None or env.settings.covers(url):
            return env
    return None


def _configured(key: str) -> str | None:
    """Return an option that an enclosing Env or the environment has set."""
    if rasterio.env.hasenv() and key in rasterio.env.getenv():
        return as_text(rasterio.env.getenv()[key])
    return os.environ.get(key)
