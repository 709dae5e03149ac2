"""Access for GDAL programs: rio, gdalinfo, QGIS, R and whatever else is built on GDAL (>= 3.7).

The way is that of `terrascope_env`, without code in the program: a file that GDAL_CONFIG_FILE
names gives the paths of Terrascope's origins a header file, which GDAL reads again at every
request and this process keeps fresh.
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
from rio_terrascope.gdal import header
from rio_terrascope.gdal.options import (
    HEADER_FILE,
    HEADERS,
    PATH_OPTIONS,
    PROCESS_OPTIONS,
    PROXY,
    S3_REDIRECT,
    without_authorization,
)
from rio_terrascope.registry import vsi_prefixes
from rio_terrascope.settings import Settings, stays_here

# Where GDAL looks for its configuration when GDAL_CONFIG_FILE is not set. There is one for the
# system too, whose place is known to that GDAL alone.
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
        The login; renewed while the program runs.
    all_hosts : bool
        For GDAL older than 3.7: the token goes to every host that the program contacts.
    environ : mapping, optional
        The environment to hand on instead of ``os.environ``.

    Returns
    -------
    int
        Its exit code; minus the signal's number if a signal ended it.

    Raises
    ------
    InvalidCredentialsError, TokenEndpointError
        If there is no login to be had.
    FileNotFoundError, PermissionError
        If there is no such program, or it cannot be run.
    """
    environ = os.environ if environ is None else environ
    tokens.get()
    header_file = header.HeaderFile()

    def write(token: Token) -> None:
        header_file.write(token.access_token)

    try:
        tokens.subscribe(write)
        tokens.start()
        child_environ = for_child(environ)
        if all_hosts:
            child_environ |= options_for_all_hosts(header_file.path, environ)
        else:
            config = config_text(tokens.settings, header_file.path, environ)
            config_file = header_file.write_config(config)
            child_environ |= {"GDAL_CONFIG_FILE": str(config_file), S3_REDIRECT: "NO"}
        with subprocess.Popen(list(command), env=child_environ) as child, _signals_for(child):
            return child.wait()
    finally:
        tokens.unsubscribe(write)
        tokens.stop()
        header_file.close()


def for_child(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment to hand on: without the password, and without what rasterio has put there."""
    # rasterio sets these to its own certificates, which must not replace those of the program's GDAL
    bundles = ("GDAL_CURL_CA_BUNDLE", "PROJ_CURL_CA_BUNDLE")
    return {
        name: value
        for name, value in environ.items()
        if name != "TERRASCOPE_PASSWORD" and not (name in bundles and certificates.is_default(value))
    }


def config_text(settings: Settings, header_file: Path, environ: Mapping[str, str]) -> str:
    """Write the file that GDAL_CONFIG_FILE names: the user's own first, then the access.

    Parameters
    ----------
    settings : Settings
        Where the token may go.
    header_file : Path
    environ : mapping
        Names the user's own file, and holds options of the user's, which win.

    Returns
    -------
    str

    Raises
    ------
    TerrascopeError
        If the user's own file is named and cannot be read.
    """
    own = _own_config(environ)
    theirs = _options_in(own) | {key: value for key, value in environ.items() if value}
    # an environment variable or the user's file is asked first by GDAL where it is not set per path
    process_options = {k: v for k, v in PROCESS_OPTIONS.items() if k not in theirs}
    path_options = {key: theirs.get(key, default) for key, default in PATH_OPTIONS.items()}
    if bundle := certificates.for_gdal(theirs):
        path_options[bundle.gdal_option] = bundle.path
    headers = theirs.get(HEADERS, "")
    if headers != without_authorization(headers):  # a token pasted there would go along with ours
        path_options[HEADERS] = without_authorization(headers)
    lines = [own.rstrip(), "", "[configoptions]", f"{S3_REDIRECT}=NO"]
    lines += [f"{key}={value}" for key, value in process_options.items()]
    lines += ["", "[credentials]"]
    for number, prefix in enumerate(vsi_prefixes(settings)):
        lines += ["", f"[.rio_terrascope_{number}]", f"path={prefix}", f"{HEADER_FILE}={header_file}"]
        lines += [f"{key}={value}" for key, value in path_options.items()]
        if stays_here(prefix.removeprefix("/vsicurl/")):
            lines.append(f"{PROXY}=")
    return "\n".join(lines).lstrip() + "\n"


def options_for_all_hosts(header_file: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that give a GDAL of any age the token, for every host."""
    options = PATH_OPTIONS | PROCESS_OPTIONS
    chosen = {key: environ.get(key) or default for key, default in options.items()}
    if bundle := certificates.for_gdal(environ):
        chosen[bundle.gdal_option] = bundle.path
    headers = environ.get(HEADERS, "")
    if headers != without_authorization(headers):
        chosen[HEADERS] = without_authorization(headers)
    return chosen | {HEADER_FILE: str(header_file), S3_REDIRECT: "NO"}


def _own_config(environ: Mapping[str, str]) -> str:
    """Return the text of the configuration file that GDAL would read without us."""
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
            f"GDAL_CONFIG_FILE names {path}, which cannot be read ({(error.strerror or '').lower()}). "
            "Next: correct it, or unset GDAL_CONFIG_FILE."
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
    """Pass signals on to the child, and leave it to the child whether they end it."""

    def pass_on(number: int, _frame: object) -> None:
        # Ctrl-C at the terminal reaches the child too: twice would be once too often
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
