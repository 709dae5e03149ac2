"""The login that ``tsread login`` saves, and that all processes of the user share.

A refresh token can be used once: the answer brings the next one. So a process takes a lock, uses the
refresh token, and stores the next one before it releases the lock. A process that waited for the
lock finds a fresh token, and uses that.
"""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rio_terrascope.auth.oidc import ATTEMPTS, RefreshRefusedError, Token, TokenEndpoint
from rio_terrascope.errors import SettingsError
from rio_terrascope.private_files import replace_private_file
from rio_terrascope.settings import Settings

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

SERVICE = "rio-terrascope"  # the name in the keyring, and of the folder


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

    @property
    def ends_at(self) -> float | None:
        """The end of the login, in seconds since the epoch; None if it can always be renewed."""
        if self.password is not None:
            return None
        if self.token.refresh_token is None:
            return self.token.expires_at
        return self.token.refresh_expires_at

    def to_json(self) -> str:
        """Return the login as JSON, secrets included."""
        return json.dumps({"username": self.username, "token": asdict(self.token), "password": self.password})

    @classmethod
    def from_json(cls, text: str, source: str) -> "SavedLogin":
        """Read the JSON of `to_json`. Anything else raises ValueError, TypeError or KeyError."""
        fields = json.loads(text)
        return cls(fields["username"], Token(**fields["token"]), fields.get("password"), source)


class LoginStore:
    """The saved logins: in the OS keyring if it can be used, else in a file (0600).

    There is one login for each token endpoint and client.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._key = f"{settings.token_url} {settings.client_id}"
        self.folder = _config_folder() / SERVICE
        self.file = self.folder / "logins.json"

    def load(self) -> SavedLogin | None:
        """Return the saved login, even if it has ended; None if there is none, or it cannot be read."""
        keyring = _keyring()
        if keyring is not None:
            with _keyring_trouble("read"):
                text = keyring.get_password(SERVICE, self._key)
                if text:
                    return SavedLogin.from_json(text, _name(keyring))
        text = self._read_file().get(self._key)
        if text is not None:
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                return SavedLogin.from_json(text, str(self.file))
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
                keyring.set_password(SERVICE, self._key, kept.to_json())
                self._write_file(None)
                return kept
        kept = replace(login, password=None, source=str(self.file))
        self._write_file(kept.to_json())
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
    def locked(self) -> Iterator[None]:
        """Hold the lock that all processes and threads of the user respect, inside the block."""
        with self._unwritable_explained():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            if fcntl is not None:
                # closing is not enough: a child that was forked inside the block has the file open too
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _read_file(self) -> dict[str, Any]:
        try:
            logins = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return logins if isinstance(logins, dict) else {}

    def _write_file(self, text: str | None) -> None:
        """Put this endpoint's login into the file, or remove it. Other endpoints' logins stay."""
        logins = self._read_file()
        if text is None and self._key not in logins:
            return
        logins.pop(self._key, None)
        if text is not None:
            logins[self._key] = text
        with self._unwritable_explained():
            replace_private_file(self.file, json.dumps(logins))

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
        self._store = LoginStore(settings)
        self._clock = clock

    def password_grant(self, username: str, password: str, *, attempts: int = ATTEMPTS) -> Token:
        """Log in, and leave the saved login alone."""
        return self._endpoint.password_grant(username, password, attempts=attempts)

    def refresh_grant(self, refresh_token: str, *, attempts: int = ATTEMPTS) -> Token:
        """Return a newer token than the one that came with `refresh_token`.

        Raises
        ------
        RefreshRefusedError
            The login has ended, or was removed by ``tsread logout``.
        TokenEndpointError
            As `TokenEndpoint.refresh_grant` does.
        """
        with self._store.locked():
            saved = self._store.load()
            if saved is None or saved.username != self.username:
                raise RefreshRefusedError(
                    f"the saved login of user {self.username} is no longer there", next_step="tsread login"
                )
            if saved.token.refresh_token != refresh_token and saved.token.expires_at > self._clock() + 1:
                log.info("another process has renewed the saved login")
                return saved.token
            token = self._renew(saved, attempts)
            try:
                self._store.save(replace(saved, token=token))
            except SettingsError as error:  # this process can go on; the next one cannot
                log.warning("the renewed login is lost for later commands: %s", error)
            return token

    def _renew(self, saved: SavedLogin, attempts: int) -> Token:
        if saved.token.refresh_token is not None:
            try:
                return self._endpoint.refresh_grant(saved.token.refresh_token, attempts=attempts)
            except RefreshRefusedError as error:
                if saved.password is None:
                    raise RefreshRefusedError(
                        f"the saved login of user {self.username} has ended ({error.reason})",
                        next_step="tsread login",
                    ) from None
        if saved.password is None:
            raise RefreshRefusedError(
                f"the saved login of user {self.username} cannot be renewed", next_step="tsread login"
            )
        return self._endpoint.password_grant(self.username, saved.password, attempts=attempts)


def _config_folder() -> Path:
    """Return the folder for the user's configuration files, where each system expects it."""
    # expanduser, since Path.home() raises an error for a user without a home
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or os.path.expanduser("~"))
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Application Support"))
    return Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))


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
