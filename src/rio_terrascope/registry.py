"""The logins that are active in this process, and what they set in GDAL together."""

import functools
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from rio_terrascope import private_files
from rio_terrascope.auth.oidc import Token
from rio_terrascope.auth.tokens import TICK, TokenSource
from rio_terrascope.errors import AccountConflictError
from rio_terrascope.gdal import cache, forking, libgdal
from rio_terrascope.gdal.header import Header
from rio_terrascope.gdal.main_thread import in_main_thread
from rio_terrascope.gdal.options import (
    GUARDS,
    HEADER_FILE,
    HEADERS,
    AppliedOptions,
    Option,
    ReadOptions,
    choose_read_options,
    options_for_path,
    vsi_prefixes,
)
from rio_terrascope.gdal.plain_env import PlainEnv
from rio_terrascope.settings import Settings

Scope = Literal["origins", "env"]

# version 0.1.0 kept the token in a file, and left it behind if its process was killed
_sweep_once = functools.cache(private_files.sweep)


class Login:
    """A login that is active in this process, shared by all entries for the same account."""

    def __init__(self, tokens: TokenSource) -> None:
        self.tokens = tokens
        self.header: Header | None = None

    def open(self, *, share_with_gdal: bool) -> None:
        """Keep the token fresh and, if asked to, in a header for GDAL. May be called again."""
        self.tokens.start()
        if share_with_gdal:
            self.header = self.header or Header()
            self.tokens.subscribe(self._write, is_lost=self._is_lost)

    def close(self) -> threading.Thread | None:
        """Remove the header, end the refresh, and return its thread, which may take a moment to end."""
        self.tokens.unsubscribe(self._write)
        if self.header is not None:
            self.header.remove()
            self.header = None
        return self.tokens.stop()

    def put_right(self) -> None:
        """Set again what other code of the process may have changed: the header and the options."""
        token = self.tokens.current
        if token is not None and self._is_lost():
            self._write(token)

    def _is_lost(self) -> bool:
        """Set the process's options again, and tell whether the header is gone. Called every second, too."""
        registry.put_right()
        return self.header is not None and not self.header.is_there

    def _write(self, token: Token) -> None:
        if self.header is not None:
            self.header.write(token.access_secret)


@dataclass(eq=False)
class Entry:
    """One entry into one env, until the env is left.

    Attributes
    ----------
    login : Login
    settings : Settings
    scope : {"origins", "env"}
    for_process : bool
        True if code that names no account joins this login, wherever in the process it runs.
    options : ReadOptions or None
        Chosen when the login has succeeded. Until then GDAL is left alone.
    plain : PlainEnv or None
        What `TerrascopeEnv` has set for this entry in its thread.
    """

    login: Login
    settings: Settings
    scope: Scope
    for_process: bool = False
    options: ReadOptions | None = None
    plain: PlainEnv | None = None


class Registry:
    """All entries of the process, and the options that they set in GDAL together.

    Entries end in any order, so what is set in GDAL is not a stack of changes. After each entry
    and exit it is computed again from the entries that are left, the newest last.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # never held over a request
        self._entries: list[Entry] = []
        self._options = AppliedOptions()
        self._main_thread_has: dict[str, str | None] = dict.fromkeys(GUARDS)

    def enter(
        self,
        settings: Settings,
        scope: Scope,
        given: Mapping[str, str],
        tokens: TokenSource,
        *,
        for_process: bool = False,
    ) -> Entry:
        """Log in, or join the login of the same account, and let GDAL use it.

        Parameters
        ----------
        settings : Settings
        scope : {"origins", "env"}
        given : mapping of str to str
            The GDAL options that the user gave.
        tokens : TokenSource
            Logs in. Not used if the same account is logged in already.
        for_process : bool
            See `Entry`.

        Returns
        -------
        Entry
            To be handed to `leave`, once.

        Raises
        ------
        TerrascopeError
            As entering a `TerrascopeEnv` does.
        """
        entry = Entry(Login(tokens), settings, scope, for_process)
        try:
            _sweep_once()
            self._reserve(entry)
            if tokens.credentials is None or entry.login.tokens.knows(tokens.credentials):
                entry.login.tokens.get()
            else:  # the same user with another password, which counts only if it is right
                entry.login.tokens.adopt(tokens.credentials)
            with self.lock:
                entry.login.open(share_with_gdal=scope == "origins")
                if libgdal.why_not_scoped() is None:
                    entry.options = choose_read_options(given, self._options.configured)
                    self._apply()
                for prefix in vsi_prefixes(settings):
                    cache.forget(prefix)
        except BaseException:
            self.leave(entry)
            raise
        return entry

    def leave(self, entry: Entry) -> None:
        """End an entry, and its login too if no other entry shares it. Ctrl-C is raised at the end."""
        to_the_end(lambda: self._leave(entry))

    def _leave(self, entry: Entry) -> None:
        """End an entry. May be called again for the same one, and for one that was not entered."""
        thread = None
        with self.lock:
            if entry in self._entries:
                self._entries.remove(entry)
            if libgdal.why_not_scoped() is None:
                self._apply()
            still = {prefix for other in self._entries for prefix in vsi_prefixes(other.settings)}
            for prefix in vsi_prefixes(entry.settings):
                if prefix not in still:
                    cache.forget(prefix)
            if all(other.login is not entry.login for other in self._entries):
                thread = entry.login.close()
        if thread is not None and thread.is_alive():
            # Do not wait long: a hanging request ends at its own timeout, and its result is discarded.
            thread.join(timeout=2 * TICK)

    def process_login(self, settings: Settings | None = None) -> TokenSource | None:
        """Return the login for code that names no account: one for these origins, or for any."""
        with self.lock:
            for entry in self._entries:
                origins = settings.origins if settings else entry.settings.origins
                if entry.for_process and set(entry.settings.origins) & set(origins):
                    return entry.login.tokens
        return None

    def _reserve(self, entry: Entry) -> None:
        """Find the login of the same account, so that nobody else makes a second one from here on."""
        tokens, settings = entry.login.tokens, entry.settings
        with self.lock:
            for other in self._entries:
                if other.login.tokens.account == tokens.account:
                    entry.login = other.login
                elif shared := set(other.settings.origins) & set(settings.origins):
                    raise AccountConflictError(
                        f"{', '.join(sorted(shared))} is being read by {_name(other.login.tokens)} in this "
                        f"process, and {_name(tokens)} asks for it too",
                        next_step="leave the other block (or call logout()) first, or use a process for each "
                        "account",
                    )
            self._entries.append(entry)

    def _apply(self) -> None:
        """Set in GDAL what the entries need, and restore what none of them needs."""
        wanted: dict[Option, str] = {}
        for entry in self._entries:
            header = entry.login.header
            if entry.options is None or entry.scope != "origins" or header is None:
                continue
            for prefix in vsi_prefixes(entry.settings):
                options = options_for_path(prefix, header.path, entry.options)
                wanted |= {(prefix, key): value for key, value in options.items()}
            wanted |= {(None, key): value for key, value in entry.options.for_process.items()}
            wanted |= {(None, key): value for key, value in GUARDS.items()}
        for entry in self._entries:
            if entry.options is not None and entry.scope == "env":
                for prefix in vsi_prefixes(entry.settings):
                    if (prefix, HEADER_FILE) in wanted:  # the token once, not twice
                        wanted.setdefault((prefix, HEADERS), "")
        self._options.apply(wanted)
        self._guard_main_thread()

    def put_right(self) -> None:
        """Set the options of the process again that an Env has changed since."""
        if libgdal.why_not_scoped() is None and self.lock.acquire(blocking=False):  # else they are being set
            try:
                self._options.put_right()
                self._guard_main_thread()
            finally:
                self.lock.release()

    def configured(self, key: str) -> str | None:
        """Return an option as GDAL would see it in this thread without the logins."""
        if libgdal.why_not_scoped() is not None:
            return None
        with self.lock:
            return self._options.configured(key)

    def _guard_main_thread(self) -> None:
        """Keep an inner Env of the main thread from undoing `GUARDS` there.

        rasterio sets the main thread's options for the process, and a thread's own options win over those.
        """
        wanted = {key: self._options.value(key) for key in GUARDS}
        if wanted != self._main_thread_has:
            self._main_thread_has = {}  # Ctrl-C may come before all are set
            in_main_thread(lambda: libgdal.set_for_this_thread(wanted))
            self._main_thread_has = wanted

    def before_fork(self) -> None:
        """Let no other thread change anything while the process is copied."""
        self.lock.acquire()
        if self._entries:
            cache.before_fork()
            forking.wait_until_others_have_left()

    def after_fork_in_parent(self) -> None:
        """Let other threads go on."""
        if self._entries:
            forking.let_go()
            cache.after_fork_in_parent()
        self.lock.release()

    def after_fork_in_child(self) -> None:
        """Make the logins the child's own."""
        self.lock = threading.RLock()
        forking.let_go()
        cache.after_fork_in_child()
        if not self._entries:
            return
        self._main_thread_has = {}  # a thread that forks is the main thread of its child
        for login in {entry.login for entry in self._entries if entry.options is not None}:
            login.tokens.start()
        self._apply()


def to_the_end(work: Callable[[], None]) -> None:
    """Call a function again until Ctrl-C, or a signal that ends the process, no longer interrupts it.

    The function can be called again after any of its steps. What interrupted it is raised at the end.
    """
    try:
        work()
    except (KeyboardInterrupt, SystemExit):
        to_the_end(work)
        raise


class PutRight:
    """A value for an option of an Env, which sets the options of the process again when it is read.

    rasterio clears the options that an inner Env has named when that is left. Then it sets those of the
    enclosing Env again, and calls `str` on each value. (Values in C's environment would stay, but GDAL reads
    that in all threads, and setting it crashes the process. GDAL would call a subscriber to its options with
    a lock held: as a Python function, that waits for the GIL without end.)
    """

    def __str__(self) -> str:
        registry.put_right()
        return "YES"


def _name(tokens: TokenSource) -> str:
    return f"user {tokens.username}" if tokens.username else "a login by token"


registry = Registry()

if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(
        before=registry.before_fork,
        after_in_parent=registry.after_fork_in_parent,
        after_in_child=registry.after_fork_in_child,
    )
