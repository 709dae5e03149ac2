"""The servers to read from: nginx with TLS, HTTP/2 and a Bearer check, or the sandbox."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rio_terrascope.sandbox import Sandbox

TOKEN = "benchmark-token"


@dataclass
class Server:
    """A running server, and a count of its requests."""

    name: str
    scheme: str
    port: int
    environ: dict[str, str]  # without TERRASCOPE_ORIGINS, which has the proxy's port
    token: str
    log: Path | None = None
    sandbox: Sandbox | None = None
    _read: int = field(default=0, repr=False)

    def requests(self) -> int:
        """Return the number of requests since the last call."""
        if self.sandbox is not None:
            count = len(self.sandbox.requests("data"))
            self.sandbox.clear()
            return count
        with self.log.open() as log:
            log.seek(self._read)
            count = sum(1 for _ in log)
            self._read = log.tell()
        return count


@contextlib.contextmanager
def serve(files: Mapping[str, Path], folder: Path) -> Iterator[Server]:
    """Serve files by URL path, with nginx if it is installed."""
    with _nginx(files, folder) if shutil.which("nginx") else _sandbox(files) as server:
        yield server


@contextlib.contextmanager
def _nginx(files: Mapping[str, Path], folder: Path) -> Iterator[Server]:
    for path, file in files.items():
        link = folder / "root" / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-keyout", key, "-out", certificate, *subject],
        check=True, capture_output=True,
    )  # fmt: skip
    port, token_port = _free_port(), _free_port()
    log = folder / "access.log"
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"""
        {"user root;" if os.geteuid() == 0 else ""}
        worker_processes 1;
        daemon off;
        pid {folder}/nginx.pid;
        error_log {folder}/error.log;
        events {{ worker_connections 4096; }}
        http {{
            log_format one '$request_method $status $body_bytes_sent $http_range';
            access_log off;
            sendfile on;
            keepalive_requests 1000000;
            client_body_temp_path {folder}/body;
            map $http_authorization $allowed {{ "Bearer {TOKEN}" 1; default 0; }}
            server {{
                listen 127.0.0.1:{port} ssl http2;
                ssl_certificate {certificate};
                ssl_certificate_key {key};
                access_log {log} one;
                root {folder}/root;
                location /download/ {{
                    if ($allowed = 0) {{ return 401; }}
                }}
            }}
            server {{
                listen 127.0.0.1:{token_port};
                default_type application/json;
                location /token {{
                    return 200 '{{"access_token": "{TOKEN}", "expires_in": 3600, "token_type": "Bearer"}}';
                }}
            }}
        }}
        """
    )
    process = subprocess.Popen(["nginx", "-e", folder / "error.log", "-c", configuration])
    try:
        _wait_for(port)
        environ = {
            "TERRASCOPE_USERNAME": "researcher",
            "TERRASCOPE_PASSWORD": "password",
            "TERRASCOPE_TOKEN_URL": f"http://127.0.0.1:{token_port}/token",
            "GDAL_CURL_CA_BUNDLE": str(certificate),
            "REQUESTS_CA_BUNDLE": str(certificate),
        }
        version = (
            subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip().split("/")[-1]
        )
        yield Server(f"nginx {version}, TLS and HTTP/2", "https", port, environ, TOKEN, log=log)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _sandbox(files: Mapping[str, Path]) -> Iterator[Server]:
    with Sandbox(tiles=[next(iter(files.values()))], token_lifetime=36000) as sandbox:
        for path, file in files.items():
            sandbox.add_file(file, path)
        import requests

        form = {
            "grant_type": "password", "client_id": sandbox.environ["TERRASCOPE_CLIENT_ID"],
            "username": sandbox.username, "password": sandbox.password,
        }  # fmt: skip
        token = requests.post(sandbox.token_url, data=form, timeout=10).json()["access_token"]
        port = int(sandbox.origin.rpartition(":")[2])
        yield Server("the sandbox, HTTP/1.1", "http", port, sandbox.environ, token, sandbox=sandbox)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
