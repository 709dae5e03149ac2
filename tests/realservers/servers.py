"""Servers from other projects, each in a process on a free loopback port, and their logs.

Apache httpd with mod_auth_openidc, nginx with TLS, tinyproxy, and django-oauth-toolkit (identity.py). None
needs root or touches the system's configuration. If root runs the tests, the servers run as nobody.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

IDENTITY = Path(__file__).with_name("identity.py")
USERNAME, PASSWORD = "researcher", "correct horse & battery+staple"  # as in identity.py
MODULES = Path("/usr/lib/apache2/modules")
PACKAGES = "apache2-bin libapache2-mod-auth-openidc nginx tinyproxy-bin"

TILE_PATH = "/download/WORLDCOVER/tile.tif"


def missing() -> list[str]:
    """Return the names of the programs that are not installed."""
    programs = [name for name in ("apache2", "nginx", "tinyproxy") if _find(name) is None]
    return programs + ([] if (MODULES / "mod_auth_openidc.so").exists() else ["mod_auth_openidc"])


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")


@dataclass
class Server:
    """A running server."""

    url: str  # scheme://host:port
    log: Path  # one line per request
    folder: Path

    def requests(self) -> list[str]:
        """Return the lines of the log since the last `clear`, or since the start."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def clear(self) -> None:
        """Empty the log. The server continues to append to it."""
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.log, 0)


@contextlib.contextmanager
def serving(
    program: str | Path,
    *arguments: str | Path,
    folder: Path,
    ports: list[int],
    drop_root: bool = True,
) -> Iterator[None]:
    """Run a program until the block is left. The block is entered once its ports answer."""
    unprivileged = {}
    if drop_root and os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        unprivileged = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    output = folder / "output.log"
    with (
        output.open("w") as out,
        subprocess.Popen(
            [program, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            **unprivileged,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 30
            for port in ports:
                while not _answers(port):
                    if process.poll() is not None or time.monotonic() > deadline:
                        logs = "\n".join(log.read_text() for log in folder.glob("*.log"))
                        raise RuntimeError(f"{program} did not start:\n{logs}")
                    time.sleep(0.02)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def folder_for(name: str) -> Iterator[Path]:
    """Make a folder that an unprivileged server can read, unlike pytest's temporary folders."""
    with tempfile.TemporaryDirectory(prefix=f"rio-terrascope-{name}-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextlib.contextmanager
def identity(lifetime: int, *, keep: bool = True) -> Iterator[Server]:
    """Run django-oauth-toolkit, with access tokens of `lifetime` seconds and rotating refresh tokens.

    With `keep`, an access token stays valid after a refresh until it expires, as with Keycloak.
    """
    port = free_port()
    with folder_for("identity") as folder:
        arguments = [IDENTITY, folder, str(port), str(lifetime), "yes" if keep else "no"]
        # as the present user, because others may not be able to read the venv
        with serving(sys.executable, *arguments, folder=folder, ports=[port], drop_root=False):
            yield Server(f"http://127.0.0.1:{port}", folder / "tokens.log", folder)


@contextlib.contextmanager
def apache(tile: Path, secured: "Secured", authority: Path, certificate: Path) -> Iterator["Apache"]:
    """Run Apache httpd with mod_auth_openidc, which checks tokens at the identity server.

    It insists on TLS for that, so it asks through nginx and trusts the private authority. A second virtual
    host is not allowed to ask and refuses every token. A third one serves over TLS.
    """
    port, other_port, tls_port = free_port(), free_port(), free_port()
    with folder_for("apache") as folder:
        _put(tile, folder, TILE_PATH)
        shutil.copy(authority, folder / "ca.pem")
        shutil.copy(certificate, folder / "server.pem")
        modules = "mpm_event authn_core authz_core authz_user auth_openidc ssl"
        load = "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in modules.split())
        (folder / "apache.conf").write_text(f"""
            ServerRoot {folder}
            ServerName 127.0.0.1
            Listen 127.0.0.1:{port}
            Listen 127.0.0.1:{other_port}
            Listen 127.0.0.1:{tls_port}
            PidFile {folder}/apache.pid
            DefaultRuntimeDir {folder}
            Mutex file:{folder}
            ErrorLog {folder}/error.log
            {load}
            LogFormat "%m %>s %{{Range}}i %U %u" counted
            CustomLog {folder}/access.log counted
            DocumentRoot {folder}/root
            OIDCCryptoPassphrase for-tests
            OIDCCABundlePath {folder}/ca.pem
            OIDCOAuthIntrospectionEndpoint {secured.login_url}/o/introspect/
            OIDCOAuthClientID data-server
            OIDCOAuthClientSecret data-server-secret
            OIDCOAuthRemoteUserClaim username
            <Location /download>
                AuthType oauth20
                Require valid-user
            </Location>
            <VirtualHost 127.0.0.1:{port}>
            </VirtualHost>
            <VirtualHost 127.0.0.1:{other_port}>
                OIDCOAuthClientSecret not-the-secret
            </VirtualHost>
            <VirtualHost 127.0.0.1:{tls_port}>
                SSLEngine on
                SSLCertificateFile {folder}/server.pem
            </VirtualHost>
        """)
        arguments = ["-f", folder / "apache.conf", "-DFOREGROUND"]
        with serving(_find("apache2"), *arguments, folder=folder, ports=[port, other_port, tls_port]):
            yield Apache(
                f"http://127.0.0.1:{port}",
                folder / "access.log",
                folder,
                f"http://127.0.0.1:{other_port}",
                f"https://127.0.0.1:{tls_port}",
            )


@dataclass
class Apache(Server):
    """Apache httpd, and its other virtual hosts."""

    refusing_url: str
    tls_url: str


@dataclass
class Secured(Server):
    """nginx with TLS, in front of the identity server too."""

    login_url: str  # the identity server, over TLS


@contextlib.contextmanager
def nginx(tile: Path, identity: Server, certificate: Path) -> Iterator[Secured]:
    """Run nginx with TLS. It checks each request at the identity server (auth_request)."""
    data, login = free_port(), free_port()
    with folder_for("nginx") as folder:
        _put(tile, folder, TILE_PATH)
        shutil.copy(certificate, folder / "server.pem")
        temporary = "\n".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(f"""
            daemon off;
            worker_processes 1;
            pid {folder}/nginx.pid;
            error_log {folder}/error.log;
            events {{ }}
            http {{
                {temporary}
                log_format counted '$request_method $status $http_range $uri';
                access_log off;
                ssl_certificate {folder}/server.pem;
                ssl_certificate_key {folder}/server.pem;
                server {{
                    listen 127.0.0.1:{data} ssl http2;
                    root {folder}/root;
                    access_log {folder}/access.log counted;
                    location /download/ {{ auth_request /check; }}
                    location = /check {{
                        internal;
                        proxy_pass {identity.url}/check;
                        proxy_method GET;
                        proxy_pass_request_body off;
                        proxy_set_header Content-Length "";
                    }}
                }}
                server {{
                    listen 127.0.0.1:{login} ssl;
                    location /o/ {{ proxy_pass {identity.url}; }}
                }}
            }}
        """)
        arguments = ["-e", folder / "error.log", "-c", folder / "nginx.conf"]
        with serving(_find("nginx"), *arguments, folder=folder, ports=[data, login]):
            yield Secured(
                f"https://127.0.0.1:{data}",
                folder / "access.log",
                folder,
                f"https://127.0.0.1:{login}",
            )


@contextlib.contextmanager
def tinyproxy() -> Iterator[Server]:
    """Run tinyproxy. `connects` counts its tunnels."""
    port = free_port()
    with folder_for("proxy") as folder:
        (folder / "tinyproxy.conf").write_text(f"""
Port {port}
Listen 127.0.0.1
Allow 127.0.0.1
MaxClients 100
LogLevel Connect
LogFile "{folder}/proxy.log"
""")
        arguments = ["-d", "-c", folder / "tinyproxy.conf"]
        with serving(_find("tinyproxy"), *arguments, folder=folder, ports=[port]):
            yield Server(f"http://127.0.0.1:{port}", folder / "proxy.log", folder)


def connects(proxy: Server, url: str) -> int:
    """Count the tunnels that the proxy has made to a server."""
    host = url.partition("://")[2].partition("/")[0]
    return sum(f": CONNECT {host} " in line for line in proxy.requests())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _put(tile: Path, folder: Path, *paths: str) -> None:
    """Copy the tile into the folder that the server serves."""
    for path in paths:
        file = folder / "root" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tile, file)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
