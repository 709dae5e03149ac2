"""Finding a username and a password, or a saved login instead."""

import netrc
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rio_terrascope.auth.store import LoginStore, SavedLogin
from rio_terrascope.errors import CredentialsNotFoundError
from rio_terrascope.secret import Secret, Variables
from rio_terrascope.settings import Settings


@dataclass(frozen=True)
class Credentials:
    """A username and password, and where they were found."""

    username: str
    password: Secret  # a str becomes one
    source: str = "arguments"

    def __post_init__(self) -> None:
        object.__setattr__(self, "password", Secret.of(self.password))

    def __reduce__(self) -> str:
        raise TypeError("a password cannot be pickled: look for it in the process that needs it.")


def find_credentials(
    settings: Settings,
    username: str | None = None,
    password: str | Secret | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Credentials | SavedLogin:
    """Find the username and password for the token endpoint, or a saved login.

    The first of these wins: the arguments; TERRASCOPE_USERNAME and TERRASCOPE_PASSWORD; the login
    that ``tsread login`` has saved; the entry for the token endpoint's host in ``~/.netrc`` (or in the
    file that NETRC names). If only a username is given, other users' credentials are ignored.

    Parameters
    ----------
    settings : Settings
    username, password : optional
    environ : mapping, optional
        The environment to read instead of ``os.environ``.

    Returns
    -------
    Credentials or SavedLogin

    Raises
    ------
    CredentialsNotFoundError
        If there are none. The message lists all of these sources, and why each was not used.
    """
    password = Secret.of(password)
    environ_ = Variables(environ)
    del environ  # it may hold the password
    looked_at: list[str] = []
    for look in (_in_arguments, _in_environ, _in_saved_logins, _in_netrc):
        found = look(settings, username, password, environ_)
        if not isinstance(found, str):
            return found
        looked_at.append(found)
    host = settings.token_host
    wanted = f"password for user {username}" if username else "username and password"
    raise CredentialsNotFoundError(
        f"no {wanted} found for {host}. Looked at: {'; '.join(looked_at)}",
        next_step="run 'tsread login', or set TERRASCOPE_USERNAME and TERRASCOPE_PASSWORD, or add to "
        f"~/.netrc the line 'machine {host} login USERNAME password PASSWORD' (then: chmod 600 ~/.netrc); an "
        "account is free at https://terrascope.be",
    )


# Each of these returns the credentials, or a phrase that says why there are none.


def _in_arguments(
    settings: Settings, username: str | None, password: Secret | None, environ: Variables
) -> Credentials | str:
    if username and password:
        return Credentials(username, password, "arguments")
    given = "username alone" if username else "password alone" if password else "none"
    return f"arguments ({given})"


def _in_environ(
    settings: Settings, username: str | None, password: Secret | None, environ: Variables
) -> Credentials | str:
    named = environ.get("TERRASCOPE_USERNAME")
    secret = Secret.of(environ.get("TERRASCOPE_PASSWORD"))
    user = named or username
    if user and secret and username in (None, "", user):
        return Credentials(user, secret, "TERRASCOPE_USERNAME and TERRASCOPE_PASSWORD")
    if named and username not in (None, "", user):
        return "TERRASCOPE_USERNAME (set, to another user)"
    found = {"USERNAME": named, "PASSWORD": secret}
    return ", ".join(f"TERRASCOPE_{name} ({'set' if value else 'not set'})" for name, value in found.items())


def _in_saved_logins(
    settings: Settings, username: str | None, password: Secret | None, environ: Variables
) -> SavedLogin | str:
    saved = LoginStore(settings).load()
    if saved is None:
        return "saved login (none)"
    if username not in (None, "", saved.username):
        return f"saved login in {saved.source} (of another user)"
    if saved.ends_at is not None and saved.ends_at <= time.time():
        return f"saved login in {saved.source} (it has ended)"
    return saved


def _in_netrc(
    settings: Settings, username: str | None, password: Secret | None, environ: Variables
) -> Credentials | str:
    given = environ.get("NETRC")
    path = Path(given) if given else Path(os.path.expanduser("~")) / ".netrc"
    if not given and not path.is_absolute():  # no HOME, and no entry in the user database either
        return "~/.netrc (there is no home directory)"
    try:
        # An entry for this host only: netrc's "default" entry may hold another service's password,
        # which must not be sent here.
        entry = _hidden(netrc.netrc(str(path)).hosts.get(settings.token_host))
    except netrc.NetrcParseError as error:
        # the parser's own message may quote a password, so name only the line
        return f"{path} (line {error.lineno} cannot be understood)"
    except UnicodeDecodeError:
        return f"{path} (it is not text)"
    except OSError as error:
        return f"{path} ({(error.strerror or 'cannot be read').lower()})"
    if entry is None:
        return f"{path} (no entry for {settings.token_host})"
    login, secret = entry
    if not login or not secret:
        return f"{path} (the entry for {settings.token_host} lacks a login or a password)"
    if username not in (None, "", login):
        return f"{path} (its entry is for another user)"
    return Credentials(login, secret, str(path))


def _hidden(entry: tuple[str, str, str] | None) -> tuple[str, Secret] | None:
    """Return the login and the password of an entry in a netrc file."""
    return None if entry is None else (entry[0], Secret(entry[2] or ""))
