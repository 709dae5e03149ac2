"""Access for GDAL programs: rio, gdalinfo, QGIS, R and anything else built on GDAL (>= 3.7).

It works as `terrascope_env` does, without code in the program. GDAL_CONFIG_FILE names a file that
gives the paths of Terrascope's origins a header file. GDAL reads that file at every request, and
this process keeps it fresh.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rio_terrascope import certificates
from rio_terrascope.auth.oidc import Token
from rio_terrascope.auth.tokens import TokenSource
from rio_terrascope.errors import TerrascopeError
from rio_terrascope.gdal.options import (
    GUARDS,
    HEADER_FILE,
    choose_read_options,
    options_for_path,
    vsi_prefixes,
    warn_of_risks,
)
from rio_terrascope.private_files import PrivateFolder
from rio_terrascope.secret import Secret, Variables
from rio_terrascope.settings import Settings

# Where GDAL looks for its configuration if GDAL_CONFIG_FILE is not set. There is one for the
# system too, whose path only that GDAL knows.
_GDALRC = Path(".gdal") / "gdalrc"


def run(
    command: Sequence[str],
    tokens: TokenSource,
    *,
    all_hosts: bool = False,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Run a program with access to Terrascope, for as long as it runs.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    tokens : TokenSource
        The login, which is renewed while the program runs.
    all_hosts : bool
        For GDAL older than 3.7: send the token to every host that the program contacts.
    environ : mapping, optional
        The environment to pass on, instead of ``os.environ``.

    Returns
    -------
    int
        The program's exit code. If a signal ended it, minus the signal's number.

    Raises
    ------
    InvalidCredentialsError, TokenEndpointError
        If the login fails.
    FileNotFoundError, PermissionError
        If the program does not exist, or cannot be run.
    """
    environ_ = Variables(environ)
    del environ  # it may hold the password
    warn_of_risks(_configured(environ_).get, guarded=True, stacklevel=2)
    tokens.get()
    folder = PrivateFolder()
    header_file = folder.path / "header"

    def write(token: Token) -> None:
        folder.write("header", Secret(f"Authorization: Bearer {token.access_token}\n"))

    try:
        tokens.subscribe(write)
        tokens.start()
        child_environ = for_child(environ_)
        if all_hosts:
            child_environ |= options_for_all_hosts(header_file, environ_)
        else:
            config = config_text(tokens.settings, header_file, environ_)
            config_file = folder.write("gdalrc", config)
            child_environ |= {"GDAL_CONFIG_FILE": str(config_file), **GUARDS}
        with subprocess.Popen(list(command), env=child_environ) as child, _signals_for(child):
            return child.wait()
    finally:
        tokens.unsubscribe(write)
        tokens.stop()
        folder.close()


def for_child(environ: Variables) -> dict[str, str]:
    """Return the environment to pass on, without the password and without what rasterio has added."""
    # rasterio sets these to its own certificates, which must not replace the program's own
    bundles = ("GDAL_CURL_CA_BUNDLE", "PROJ_CURL_CA_BUNDLE")
    return {
        name: value
        for name, value in environ.items()
        if name != "TERRASCOPE_PASSWORD" and not (name in bundles and certificates.is_default(value))
    }


def config_text(settings: Settings, header_file: Path, environ: Variables) -> str:
    """Write the text for GDAL_CONFIG_FILE: the user's own configuration first, then the access.

    Parameters
    ----------
    settings : Settings
        Where the token may go.
    header_file : Path
    environ : Variables
        Names the user's own file. GDAL options in it win over the defaults here.

    Returns
    -------
    str

    Raises
    ------
    TerrascopeError
        If GDAL_CONFIG_FILE names a file that cannot be read.
    """
    options = choose_read_options({}, _configured(environ).get)
    lines = [_own_config(environ).rstrip(), "", "[configoptions]"]
    lines += [f"{key}={value}" for key, value in (options.for_process | GUARDS).items()]
    lines += ["", "[credentials]"]
    for number, prefix in enumerate(vsi_prefixes(settings)):
        lines += ["", f"[.rio_terrascope_{number}]", f"path={prefix}"]
        lines += [f"{k}={value}" for k, value in options_for_path(prefix, header_file, options).items()]
    return "\n".join(lines).lstrip() + "\n"


def options_for_all_hosts(header_file: Path, environ: Variables) -> dict[str, str]:
    """Return the environment variables that give a GDAL of any age the token, for every host."""
    options = choose_read_options({}, environ.get)
    return options.per_path | options.for_process | {HEADER_FILE: str(header_file)} | GUARDS


def _configured(environ: Variables) -> dict[str, str]:
    """Return the options that the user has set: in a configuration file, or in the environment."""
    return _options_in(_own_config(environ)) | {key: value for key, value in environ.items() if value}


def _own_config(environ: Variables) -> str:
    """Return the text of the configuration file that GDAL would read otherwise."""
    named = environ.get("GDAL_CONFIG_FILE")
    home = environ.get("HOME")
    path = Path(named) if named else Path(home) / _GDALRC if home else None
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        if named is None:
            return ""
        raise TerrascopeError(
            f"GDAL_CONFIG_FILE names {path}, which cannot be read ({(error.strerror or '').lower()})",
            next_step="correct it, or unset GDAL_CONFIG_FILE",
        ) from None


def _options_in(text: str) -> dict[str, str]:
    """Return the [configoptions] of a GDAL configuration file."""
    options: dict[str, str] = {}
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line.lower()
        elif section == "[configoptions]" and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            options[key.strip().upper()] = value.strip()
    return options


@contextlib.contextmanager
def _signals_for(child: "subprocess.Popen[Any]") -> Iterator[None]:
    """Pass signals on to the child, which decides whether to end."""

    def pass_on(number: int, _frame: object) -> None:
        # the terminal sends Ctrl-C to the child as well, which must get it only once
        if number not in (signal.SIGINT, signal.SIGQUIT) or not _in_foreground():
            child.send_signal(number)

    numbers = [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
    previous = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    """Tell whether the terminal sends its signals to this process and its child."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
