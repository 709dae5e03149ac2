"""The login that ``tsread login`` saves, and that all processes of the user share.

A refresh token can be used once: the answer brings the next one. So a process takes a lock, uses the
refresh token, and stores the next one before it releases the lock. A process that waited for the
lock finds a fresh token, and uses that. The service ends the whole login if two processes use one
refresh token.
"""

import contextlib
import json
import logging
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rio_terrascope.auth.lock import SharedLock
from rio_terrascope.auth.oidc import ATTEMPTS, RefreshRefusedError, Token, TokenEndpoint, saved_token
from rio_terrascope.errors import SettingsError
from rio_terrascope.private_files import replace_private_file
from rio_terrascope.secret import Secret, hides
from rio_terrascope.settings import Settings

log = logging.getLogger(__name__)

SERVICE = "rio-terrascope"  # the name in the keyring, and of the folder


@hides("password")
@dataclass(frozen=True)
class SavedLogin:
    """A login that outlives the process.

    Attributes
    ----------
    username : str
    token : Token
        The newest token that any process has received.
    password : str or None
        Kept in an OS keyring only, never in a file. A login with a password does not end.
    source : str
        A description of the file or keyring that holds the login.
    """

    username: str
    token: Token
    password: str | None = field(default=None, repr=False)
    source: str = ""

    def __reduce__(self) -> str:
        raise TypeError("a saved login cannot be pickled: load it in the process that needs it")

    @property
    def password_secret(self) -> Secret | None:
        """The password, for code that passes it on."""
        secret: Secret | None = vars(self)["password"]
        return secret

    @property
    def ends_at(self) -> float | None:
        """The end of the login, in seconds since the epoch; None if it can always be renewed."""
        if self.password is not None:
            return None
        if self.token.refresh_token is None:
            return self.token.expires_at
        return self.token.refresh_expires_at

    def to_json(self, now: float) -> Secret:
        """Return the login as JSON, secrets included.

        Parameters
        ----------
        now : float
            Seconds since the epoch by this process's clock, which the times in the token refer to.
        """
        token = {
            "access_token": self.token.access_token,
            "expires_at": self.token.expires_at,
            "refresh_token": self.token.refresh_token,
            "refresh_expires_at": self.token.refresh_expires_at,
            "scope": self.token.scope,
        }
        login = {"username": self.username, "token": token, "password": self.password, "saved_at": now}
        return Secret(json.dumps(login))

    @classmethod
    def from_json(cls, text: Secret, source: str, now: float) -> "SavedLogin":
        """Read the JSON of `to_json`, and check it as an answer of the server is checked.

        Raises
        ------
        ValueError
            If it is anything else. The message says what is wrong, and quotes none of the text.
        """
        try:
            return cls._checked(json.loads(text.reveal()), source, now)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            fault = str(error) if isinstance(error, _DamagedError) else "it is damaged"
        raise ValueError(fault)

    @classmethod
    def _checked(cls, fields: dict[str, Any], source: str, now: float) -> "SavedLogin":
        username, password, saved_at = fields["username"], fields.get("password"), fields.get("saved_at")
        if not isinstance(username, str) or not username or not username.isprintable():
            raise _DamagedError("its username is not a name")
        if password is not None and not isinstance(password, str):
            raise _DamagedError("its password is not a text")
        token = saved_token(fields["token"])
        if token is None:
            raise _DamagedError("its token is not one")
        if not isinstance(saved_at, int | float) or saved_at > now + _CLOCK_SECONDS:
            # The clock was ahead when the login was saved, or the file does not tell. Then it is not known
            # how long the access token lives, so a new one is needed.
            token = replace(token, expires_at=0.0)
        return cls(username, token, password, source)


class _DamagedError(ValueError):
    """What is wrong with a saved login, in words that quote none of the text."""


_CLOCK_SECONDS = 5.0  # by which clocks of several machines may differ


class LoginStore:
    """The saved logins: in the OS keyring if it can be used, else in a file (0600).

    There is one login for each token endpoint and client.

    Parameters
    ----------
    settings : Settings
    clock : callable, optional
        Seconds since the epoch.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._key = f"{settings.token_url} {settings.client_id}"
        self._timeout = settings.timeout
        self._clock = clock
        self._config_folder = _config_folder()

    @property
    def folder(self) -> Path:
        """The folder of the saved logins.

        Raises
        ------
        SettingsError
            If the system names none.
        """
        if self._config_folder is None:
            raise SettingsError(
                "there is no folder for the saved login: HOME and XDG_CONFIG_HOME name none",
                next_step="set HOME, or set TERRASCOPE_USERNAME and TERRASCOPE_PASSWORD instead",
            )
        return self._config_folder / SERVICE

    @property
    def file(self) -> Path:
        """The file of the saved logins."""
        return self.folder / "logins.json"

    def load(self) -> SavedLogin | None:
        """Return the saved login, even if it has ended; None if there is none, or it cannot be used."""
        keyring = _keyring()
        if keyring is not None:
            with _keyring_trouble("read"):
                text = Secret.of(keyring.get_password(SERVICE, self._key))
                if text:
                    return self._read(text, _name(keyring))
        text = self._read_file().get(self._key)
        return None if text is None else self._read(text, str(self.file))

    def _read(self, text: Secret, source: str) -> SavedLogin | None:
        try:
            return SavedLogin.from_json(text, source, self._clock())
        except ValueError as error:
            log.warning("the saved login in %s is ignored: %s", source, error)
            return None

    def save(self, login: SavedLogin) -> SavedLogin:
        """Save a login in place of the last one. The caller holds the lock.

        Returns
        -------
        SavedLogin
            The saved login. Without a keyring, it has no password.

        Raises
        ------
        SettingsError
            If the login cannot be saved.
        """
        keyring = _keyring()
        if keyring is not None:
            with _keyring_trouble("written to"):
                kept = replace(login, source=_name(keyring))
                keyring.set_password(SERVICE, self._key, kept.to_json(self._clock()).reveal())
                if self._config_folder is not None:
                    self._write_file(None)
                return kept
        kept = replace(login, password=None, source=str(self.file))
        self._write_file(kept.to_json(self._clock()))
        return kept

    def remove(self) -> SavedLogin | None:
        """Delete the saved login, and return it. The caller holds the lock."""
        found = self.load()
        keyring = _keyring()
        if found is not None and keyring is not None and found.source == _name(keyring):
            with _keyring_trouble("written to"):
                keyring.delete_password(SERVICE, self._key)
        self._write_file(None)
        return found

    @contextlib.contextmanager
    def locked(self) -> Iterator[SharedLock]:
        """Hold the lock that all processes and threads of the user respect, inside the block.

        Raises
        ------
        TokenEndpointError
            If another process or thread still holds it after `Settings.timeout` seconds.
        SettingsError
            If the folder cannot be written to.
        """
        lock = SharedLock(self.folder, self._timeout)
        with contextlib.ExitStack() as stack:
            with self._unwritable_explained():
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                stack.enter_context(lock)
            yield lock

    def _read_file(self) -> dict[str, Secret]:
        """Return the logins in the file as JSON texts, by endpoint and client."""
        if self._config_folder is None:
            return {}
        try:
            with open(self.file, encoding="utf-8") as file:
                fault = _not_private(os.fstat(file.fileno()))
                if fault is None:
                    return _texts(file.read())
        except (OSError, ValueError, RecursionError):
            return {}
        log.warning("the saved login in %s is ignored: %s", self.file, fault)
        return {}

    def _write_file(self, text: Secret | None) -> None:
        """Put this endpoint's login into the file, or remove it. Other endpoints' logins stay."""
        logins = self._read_file()
        if text is None and self._key not in logins:
            return
        logins.pop(self._key, None)
        if text is not None:
            logins[self._key] = text
        with self._unwritable_explained():
            replace_private_file(self.file, _joined(logins))

    @contextlib.contextmanager
    def _unwritable_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SettingsError(
                f"the login cannot be saved in {self.folder}: {error.strerror or type(error).__name__}",
                next_step="make that folder writable, or set TERRASCOPE_USERNAME and TERRASCOPE_PASSWORD "
                "instead",
            ) from None


class SavedEndpoint:
    """The token endpoint for a saved login, which all processes of the user share.

    It is an `Endpoint` for `TokenSource`. A refresh first looks for a token that another process has
    got. If there is none, it uses the saved refresh token, and saves the new one before it releases
    the lock.

    Parameters
    ----------
    settings : Settings
    username : str
        The user of the login. A login of another user is not used.
    clock : callable, optional
        Seconds since the epoch.
    """

    def __init__(self, settings: Settings, username: str, *, clock: Callable[[], float] = time.time) -> None:
        self.username = username
        self._endpoint = TokenEndpoint(settings, clock=clock)
        self._store = LoginStore(settings, clock=clock)
        self._clock = clock

    def password_grant(self, username: str, password: str | Secret, *, attempts: int = ATTEMPTS) -> Token:
        """Log in, and leave the saved login alone."""
        return self._endpoint.password_grant(username, password, attempts=attempts)

    def refresh_grant(self, refresh_token: str | Secret, *, attempts: int = ATTEMPTS) -> Token:
        """Return a newer token than the one that came with `refresh_token`.

        Raises
        ------
        RefreshRefusedError
            The login has ended, or was removed by ``tsread logout``.
        TokenEndpointError
            As `TokenEndpoint.refresh_grant` does, or another process keeps the login locked.
        """
        refresh_token = Secret.of(refresh_token)
        with self._store.locked() as lock:
            saved = self._store.load()
            if saved is None or saved.username != self.username:
                raise RefreshRefusedError(
                    f"the saved login of user {self.username} is no longer there", next_step="tsread login"
                )
            if saved.token.refresh_secret != refresh_token and saved.token.expires_at > self._clock() + 1:
                log.info("another process has renewed the saved login")
                return saved.token
            token = self._renew(saved, attempts)
            if not lock.is_mine:
                # the process was stopped for so long that another one has taken the lock over
                log.warning("the renewed login is not saved, since another process has taken it over")
                return token
            try:
                self._store.save(replace(saved, token=token))
            except SettingsError as error:  # this process can go on; the next one cannot
                log.warning("the renewed login is lost for later commands: %s", error)
            return token

    def _renew(self, saved: SavedLogin, attempts: int) -> Token:
        if saved.token.refresh_secret is not None:
            try:
                return self._endpoint.refresh_grant(saved.token.refresh_secret, attempts=attempts)
            except RefreshRefusedError as error:
                if saved.password_secret is None:
                    raise RefreshRefusedError(
                        f"the saved login of user {self.username} has ended ({error.reason})",
                        next_step="tsread login",
                    ) from None
        if saved.password_secret is None:
            raise RefreshRefusedError(
                f"the saved login of user {self.username} cannot be renewed", next_step="tsread login"
            )
        return self._endpoint.password_grant(self.username, saved.password_secret, attempts=attempts)


def _config_folder() -> Path | None:
    """Return the folder for the user's configuration files, where each system expects it.

    A path that is not absolute is ignored, as the XDG specification wants. It would lead to the working
    directory, where somebody else may have put a login, and where ours does not belong.
    """
    # expanduser, since Path.home() raises an error for a user without a home
    home = os.path.expanduser("~") if os.environ.get("HOME") != "" else ""
    if sys.platform == "win32":
        folders = [os.environ.get("APPDATA", ""), home]
    elif sys.platform == "darwin":
        folders = [os.path.join(home, "Library/Application Support")]
    else:
        folders = [os.environ.get("XDG_CONFIG_HOME", ""), os.path.join(home, ".config")]
    return next((Path(folder) for folder in folders if os.path.isabs(folder)), None)


def _not_private(status: os.stat_result) -> str | None:
    """Say why a file is not to be believed: others could have written it. None if they could not."""
    if sys.platform == "win32":
        return None
    if status.st_uid not in (os.geteuid(), 0):
        return "it belongs to another user"
    if stat.S_IMODE(status.st_mode) & 0o022:
        return "other users may write to it (chmod 600 ends that)"
    return None


def _texts(text: str) -> dict[str, Secret]:
    logins = json.loads(text)
    found = logins.items() if isinstance(logins, dict) else ()
    return {key: Secret(login) for key, login in found if isinstance(login, str)}


def _joined(logins: dict[str, Secret]) -> Secret:
    return Secret(json.dumps({key: login.reveal() for key, login in logins.items()}))


def _keyring() -> Any:
    """Return the OS keyring's backend; None if there is none that can be used."""
    try:
        import keyring
        import keyring.core
    except ImportError:
        return None
    try:
        backend = keyring.get_keyring()
        # keyring's own backends for "nothing here" and "switched off" have a priority of 0 or less
        usable = backend.priority > 0
    except Exception:  # a backend may raise anything while it looks for its service
        return None
    return backend if usable else None


def _name(keyring: Any) -> str:
    return f"the OS keyring ({getattr(keyring, 'name', type(keyring).__name__)})"


@contextlib.contextmanager
def _keyring_trouble(what: str) -> Iterator[None]:
    """If the keyring fails, for example because it is locked, log that and go on without it."""
    try:
        yield
    except SettingsError:
        raise
    except Exception as error:
        log.info("the OS keyring could not be %s: %s", what, type(error).__name__)
