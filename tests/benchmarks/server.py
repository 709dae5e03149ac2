"""The servers to read from: nginx with TLS and a Bearer check, as each of `SERVERS`."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = "benchmark-token"
LIMIT = 4
SERVERS = {
    "http2": "HTTP/2",
    "http1": "HTTP/1.1 only",
    "limited": f"HTTP/1.1 with at most {LIMIT} connections",
}


@dataclass
class Server:
    """A running nginx, and what it logged."""

    version: str
    ports: dict[str, int]  # by the names in SERVERS; and `beyond`, which refuses all
    environ: dict[str, str]  # without TERRASCOPE_ORIGINS, which has the proxy's port
    log: Path
    _read: int = field(default=0, repr=False)

    def counts(self) -> Counter[str]:
        """Return the requests served and refused (429), and the bytes served, since the last call."""
        found = Counter(requests=0, refused=0, bytes=0)
        size = -1
        while size != (size := self.log.stat().st_size):  # nginx logs a request soon after its last byte
            time.sleep(0.05)
        with self.log.open() as log:
            log.seek(self._read)
            for line in log:
                status, count = line.split()
                found["refused" if status == "429" else "requests"] += 1
                found["bytes"] += int(count)
            self._read = log.tell()
        return found


@contextlib.contextmanager
def serve(files: Mapping[str, Path], folder: Path) -> Iterator[Server]:
    """Serve files by URL path."""
    if not shutil.which("nginx"):
        raise SystemExit("nginx is not installed. Next: apt-get install nginx-light")
    for path, file in files.items():
        link = folder / "root" / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    certificate, key, log = folder / "certificate.pem", folder / "key.pem", folder / "access.log"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-keyout", key, "-out", certificate, *subject],
        check=True, capture_output=True,
    )  # fmt: skip
    ports = dict(zip(("http2", "http1", "beyond", "token"), _free_ports(4), strict=True))
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
            log_format one '$status $body_bytes_sent';
            access_log {log} one;
            sendfile on;
            keepalive_requests 1000000;
            client_body_temp_path {folder}/body;
            ssl_protocols TLSv1.2 TLSv1.3;
            ssl_certificate {certificate};
            ssl_certificate_key {key};
            map $http_authorization $allowed {{ "Bearer {TOKEN}" 1; default 0; }}
            server {{
                listen 127.0.0.1:{ports["http2"]} ssl http2;
                listen 127.0.0.1:{ports["http1"]} ssl;
                root {folder}/root;
                location /download/ {{
                    if ($allowed = 0) {{ return 401; }}
                }}
            }}
            server {{
                listen 127.0.0.1:{ports["beyond"]} ssl;
                keepalive_timeout 0;
                return 429;
            }}
            server {{
                listen 127.0.0.1:{ports["token"]};
                access_log off;
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
        _wait_for(ports["http2"])
        environ = {
            "TERRASCOPE_USERNAME": "researcher",
            "TERRASCOPE_PASSWORD": "password",
            "TERRASCOPE_TOKEN_URL": f"http://127.0.0.1:{ports['token']}/token",
            "GDAL_CURL_CA_BUNDLE": str(certificate),
            "REQUESTS_CA_BUNDLE": str(certificate),
        }
        said = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr
        yield Server(
            f"nginx {said.strip().split('/')[-1]}", ports | {"limited": ports["http1"]}, environ, log
        )
    finally:
        process.terminate()
        process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


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
