"""``tsread login``, ``status``, ``logout`` and ``token``: the login that commands share."""

import json
import sys
import time

import click

from rio_terrascope.cli.group import terrascope
from rio_terrascope.cli.options import json_option
from rio_terrascope.cli.output import say, show
from rio_terrascope.errors import with_next_step


@terrascope.command(short_help="Log in and save the login.")
@click.option("-u", "--username", help="Asked for if not given.")
@click.option("--password-stdin", is_flag=True, help="Read the password from stdin, for scripts.")
def login(username: str | None, password_stdin: bool) -> None:
    """Log in once, for all commands and all your Python code on this machine.

    With the [keyring] extra and an OS keyring, the login is saved there with the password, and lasts
    until 'tsread logout'. Otherwise it is saved without the password, in a file that only you can
    read, and lasts until the service ends it, after an hour without use.

    \b
        tsread login
        tsread login --username me --password-stdin < password.txt
    """
    from rio_terrascope.auth.oidc import TokenEndpoint
    from rio_terrascope.auth.store import LoginStore, SavedLogin
    from rio_terrascope.cli.access import ask_for_credentials
    from rio_terrascope.settings import Settings

    settings = Settings.from_environ()
    if password_stdin:
        if not username:
            raise click.UsageError("--password-stdin needs --username.")
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        username, password = ask_for_credentials(username)
    else:
        raise click.UsageError(
            with_next_step("stdin is not a terminal", "add --username and --password-stdin")
        )
    if not password:
        raise click.UsageError("the password is empty.")
    token = TokenEndpoint(settings).password_grant(username, password)
    store = LoginStore(settings)
    with store.locked():
        saved = store.save(SavedLogin(username, token, password))
    say(f"Logged in as {username} at {settings.token_host}, {_until(saved.ends_at)}.")
    say(f"Saved in {saved.source}.")


@terrascope.command(short_help="Show the login that commands use.")
@json_option
def status(as_json: bool) -> None:
    """Show which login the other commands use: whose, from where, until when.

    Makes no request; 'tsread doctor' tries the login. Exit code 1 if there is no login.

    \b
        tsread status
    """
    from rio_terrascope.auth.credentials import find_credentials
    from rio_terrascope.auth.store import SavedLogin
    from rio_terrascope.settings import Settings

    settings = Settings.from_environ()
    found = find_credentials(settings)
    saved = isinstance(found, SavedLogin)
    ends_at = found.ends_at if isinstance(found, SavedLogin) else None
    if as_json:
        facts = {
            "username": found.username,
            "host": settings.token_host,
            "source": found.source,
            "saved": saved,
            "ends_at": None if ends_at is None else _iso(ends_at),
            "origins": list(settings.origins),
        }
        click.echo(json.dumps(facts, indent=2))
        return
    rows = {
        "User": found.username,
        "Login": settings.token_host,
        "From": found.source,
        "Lasts": _until(ends_at) if saved else "as long as the password is valid",
        "Reads": ", ".join(settings.origins),
    }
    for name, value in rows.items():
        show(f"{name + ':':8}{value}")


@terrascope.command(short_help="Forget the saved login.")
def logout() -> None:
    """Remove the login that 'tsread login' saved on this machine.

    \b
        tsread logout
    """
    from rio_terrascope.auth.store import LoginStore
    from rio_terrascope.settings import Settings

    store = LoginStore(Settings.from_environ())
    with store.locked():
        removed = store.remove()
    say(
        f"Removed the login of {removed.username} from {removed.source}." if removed else "No login is saved."
    )


@terrascope.command(short_help="Print an access token.")
@click.option("--header", is_flag=True, help="Print 'Authorization: Bearer TOKEN', for curl's -H @file.")
def token(header: bool) -> None:
    """Print a valid access token, for programs that do not use GDAL.

    A token lives for minutes, so get one when you need it. Anybody with the token can read as you
    until it expires: curl's -H @file keeps it out of the process list.

    \b
        curl -H @<(tsread token --header) -O https://services.terrascope.be/download/...
    """
    from rio_terrascope.cli.access import token_source
    from rio_terrascope.settings import Settings

    access_token = token_source(Settings.from_environ()).get().access_token
    click.echo(f"Authorization: Bearer {access_token}" if header else access_token)


def _until(ends_at: float | None) -> str:
    """Return when a saved login ends, in words."""
    if ends_at is None:
        return "until 'tsread logout'"
    minutes = max(0, round((ends_at - time.time()) / 60))
    return f"until {_clock(ends_at)} ({minutes} minutes), or longer if it is used before then"


def _clock(when: float) -> str:
    same_day = time.localtime(when)[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M", time.localtime(when))


def _iso(when: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
