"""The logins that are active in this process, and what they have set in GDAL together."""

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import rasterio.env

from rio_terrascope import certificates
from rio_terrascope.auth.oidc import Token
from rio_terrascope.auth.tokens import TICK, TokenSource
from rio_terrascope.errors import AccountConflictError, SettingsError
from rio_terrascope.gdal import cache, header, libgdal
from rio_terrascope.gdal.options import (
    HEADER_FILE,
    HEADERS,
    PATH_OPTIONS,
    PROCESS_OPTIONS,
    PROXY,
    S3_REDIRECT,
    AppliedOptions,
    Option,
    vsi_path,
    without_authorization,
)
from rio_terrascope.settings import Settings, stays_here, url_prefixes

Scope = Literal["origins", "env"]


def vsi_prefixes(settings: Settings) -> Iterator[str]:
    """Yield what the GDAL paths of all files at the origins begin with."""
    for origin in settings.origins:
        for prefix in url_prefixes(origin):
            yield vsi_path(prefix)


def refuse_s3_redirect(options: Mapping[str, object]) -> None:
    """Raise SettingsError where options would let a redirect carry the token to another host."""
    if S3_REDIRECT in options:
        raise SettingsError(
            f"{S3_REDIRECT} is set. Inside a terrascope_env it has to be NO, or a redirect to a signed "
            "S3 URL would carry the token there. Next: leave it out; it is set to NO while the block lasts."
        )


class Login:
    """A login that is active in this process, shared by all who enter for the same account."""

    def __init__(self, tokens: TokenSource) -> None:
        self.tokens = tokens
        self.header_file: header.HeaderFile | None = None

    def open(self, *, share_with_gdal: bool) -> None:
        """Keep the token fresh, and, once that is asked for, in a file for GDAL. May be called again."""
        self.tokens.start()
        if share_with_gdal and self.header_file is None:
            self.header_file = header.HeaderFile()
            try:
                self.tokens.subscribe(self._write)
            except OSError as error:
                raise SettingsError(
                    f"the token cannot be kept for GDAL in {self.header_file.folder}: {error.strerror}. "
                    "Next: make room there, or make TMPDIR name another folder."
                ) from None

    def close(self) -> threading.Thread | None:
        """Remove the file, end the refresh, and return its thread, which may take a moment to end."""
        self.tokens.unsubscribe(self._write)
        if self.header_file is not None:
            self.header_file.close()
            self.header_file = None
            header.sweep()  # what forked children left that ended without leaving the block
        return self.tokens.stop()

    def reopen_in_child(self) -> None:
        """Give a forked child a file and a refresh of its own; the parent's end with the parent."""
        if self.header_file is not None and self.tokens.current is not None:
            self.header_file.disown()
            self.header_file = header.HeaderFile()
            self._write(self.tokens.current)
        self.tokens.start()

    def _write(self, token: Token) -> None:
        if self.header_file is not None:
            self.header_file.write(token.access_token)


@dataclass(eq=False)
class Entry:
    """One entry into one env, until it is left."""

    login: Login
    settings: Settings
    scope: Scope
    standing: bool = False  # for all code in the process, so that who names no account joins it
    path_options: dict[str, str] = field(default_factory=dict)
    process_options: dict[str, str] = field(default_factory=dict)
    entered: bool = False  # False while it logs in

    def choose_options(self, given: Mapping[str, str], options: AppliedOptions) -> None:
        """Choose the read options: the user's own where there are any, else the defaults."""
        if self.scope != "origins":
            return
        for key, default in PATH_OPTIONS.items():
            # a user's own value is set per path too, since that of an Env vanishes for moments
            self.path_options[key] = given.get(key) or options.theirs(key) or default
        self.path_options |= _authorities(given, options)
        for key, default in PROCESS_OPTIONS.items():
            if key in given or options.theirs(key) is None:
                self.process_options[key] = given.get(key, default)
        self.process_options[S3_REDIRECT] = "NO"
        # a token pasted into the headers would go along with ours, and two are refused
        headers = given.get(HEADERS) or options.theirs(HEADERS) or ""
        if headers != without_authorization(headers):
            self.path_options[HEADERS] = without_authorization(headers)


def _authorities(given: Mapping[str, str], options: AppliedOptions) -> dict[str, str]:
    """Return the option that names the certificates to trust, if GDAL's own are not the ones."""
    theirs = options.theirs(certificates.GDAL_VARIABLE)
    if own := given.get(certificates.GDAL_VARIABLE):
        return {certificates.GDAL_VARIABLE: own}
    if theirs and not certificates.is_default(theirs):
        return {certificates.GDAL_VARIABLE: theirs}
    bundle = certificates.for_gdal()
    return {bundle.gdal_option: bundle.path} if bundle else {}


class Registry:
    """All logins and entries of the process, and the options that they have set in GDAL together.

    Entries end in any order, so what is set in GDAL is not a stack of changes: after each entry
    and exit it is worked out anew from the entries that are left, the newest last.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # never held over a request
        self._entries: list[Entry] = []
        self._options = AppliedOptions()

    def enter(
        self,
        settings: Settings,
        scope: Scope,
        given: Mapping[str, str],
        tokens: TokenSource,
        *,
        standing: bool = False,
    ) -> Entry:
        """Log in, or join the login of the same account, and let GDAL use it.

        Parameters
        ----------
        settings : Settings
        scope : {"origins", "env"}
        given : mapping of str to str
            The GDAL options that the user gave.
        tokens : TokenSource
            Who logs in. Left alone where the same account is logged in already.
        standing : bool
            Let it be found by `standing`.

        Returns
        -------
        Entry
            To be handed to `leave`, once.

        Raises
        ------
        TerrascopeError
            As entering a `TerrascopeEnv` does.
        """
        entry = self._reserve(tokens, settings, scope, standing)
        try:
            if tokens.credentials is None or entry.login.tokens.knows(tokens.credentials):
                entry.login.tokens.get()
            else:  # the same user with another password: it counts only if it is right
                entry.login.tokens.adopt(tokens.credentials)
            with self.lock:
                entry.login.open(share_with_gdal=scope == "origins")
                if libgdal.why_not_scoped() is None:
                    entry.choose_options(given, self._options)
                    entry.entered = True
                    self._apply()
                for prefix in vsi_prefixes(settings):
                    cache.forget(prefix)
        except BaseException:
            self.leave(entry)
            raise
        return entry

    def leave(self, entry: Entry) -> None:
        """End a entry, and with the last one of a login the login."""
        thread = None
        with self.lock:
            self._entries.remove(entry)
            if libgdal.why_not_scoped() is None:
                self._apply()
            still = {prefix for other in self._entries for prefix in vsi_prefixes(other.settings)}
            for prefix in vsi_prefixes(entry.settings):
                if prefix not in still:
                    cache.forget(prefix)
            if all(other.login is not entry.login for other in self._entries):
                thread = entry.login.close()
        if thread is not None:
            # not for long: a request of it that hangs ends by its own time-out, and reaches nobody
            thread.join(timeout=2 * TICK)

    def standing(self, settings: Settings | None = None) -> TokenSource | None:
        """Find the login that code joins which names no account: for one of these origins, or any."""
        with self.lock:
            for entry in self._entries:
                origins = settings.origins if settings else entry.settings.origins
                if entry.standing and set(entry.settings.origins) & set(origins):
                    return entry.login.tokens
        return None

    def _reserve(self, tokens: TokenSource, settings: Settings, scope: Scope, standing: bool) -> Entry:
        """Find or make the login, so that from here on nobody else makes a second one."""
        with self.lock:
            if scope == "origins" and rasterio.env.hasenv():
                refuse_s3_redirect(rasterio.env.getenv())
            entry = Entry(Login(tokens), settings, scope, standing)
            for other in self._entries:
                if other.login.tokens.account == tokens.account:
                    entry.login = other.login
                elif shared := set(other.settings.origins) & set(settings.origins):
                    raise AccountConflictError(
                        f"{', '.join(sorted(shared))} is being read by {_who(other.login.tokens)} in this "
                        f"process, and {_who(tokens)} asks for it too. Next: leave the other block (or call "
                        "logout()) first, or use a process for each account."
                    )
            self._entries.append(entry)
        return entry

    def _apply(self) -> None:
        """Set in GDAL what the entries want of it, and put back what none wants any more."""
        wanted: dict[Option, str] = {}
        for entry in self._entries:
            header_file = entry.login.header_file
            if not entry.entered or entry.scope != "origins" or header_file is None:
                continue
            for prefix in vsi_prefixes(entry.settings):
                wanted[prefix, HEADER_FILE] = str(header_file.path)
                wanted |= {(prefix, key): value for key, value in entry.path_options.items()}
                if stays_here(prefix.removeprefix("/vsicurl/")):
                    wanted[prefix, PROXY] = ""
            wanted |= {(None, key): value for key, value in entry.process_options.items()}
        for entry in self._entries:
            if entry.entered and entry.scope == "env":
                for prefix in vsi_prefixes(entry.settings):
                    if (prefix, HEADER_FILE) in wanted:  # the token once, not twice
                        wanted.setdefault((prefix, HEADERS), "")
        self._options.apply(wanted)

    def after_fork_in_child(self) -> None:
        """Make the logins the child's own."""
        self.lock = threading.RLock()
        if not self._entries:
            return
        # GDAL would go on using the parent's connections, and get the parent's answers
        cache.forget_all()
        for login in {entry.login for entry in self._entries if entry.entered}:
            login.reopen_in_child()
        self._apply()


def _who(tokens: TokenSource) -> str:
    return f"user {tokens.username}" if tokens.username else "a login by token"


registry = Registry()

if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    # no thread is in the middle of a change while the process is copied
    os.register_at_fork(
        before=lambda: registry.lock.acquire(),
        after_in_parent=lambda: registry.lock.release(),
        after_in_child=registry.after_fork_in_child,
    )
