"""An HTTP server in a process of its own, and files for it to serve."""

import http.server
import multiprocessing
import re
import sys

import numpy as np
import rasterio
from rasterio.transform import from_origin


def serve(answer):
    """Start a server. Return its URL, and a function that returns the requests since its last call.

    `answer(request)` returns the status, headers and body. If it names a Content-Length that is larger
    than the body, the connection breaks there.
    """
    fork = multiprocessing.get_context("fork")
    port, seen = fork.SimpleQueue(), fork.SimpleQueue()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            seen.put((self.command, self.path, self.headers["Range"], self.headers["Authorization"]))
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)
                self.close_connection = int(headers.get("Content-Length", len(body))) > len(body)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):
            pass  # GDAL closes its connections when it likes

    def run():
        with Server(("127.0.0.1", 0), Handler) as server:
            port.put(server.server_port)
            server.serve_forever()

    def requests():
        found = []
        while not seen.empty():
            found.append(seen.get())
        return found

    fork.Process(target=run, daemon=True).start()
    return f"http://127.0.0.1:{port.get()}", requests


def first_byte(request):
    """Return where the range that is asked for begins, or None."""
    span = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"] or "")
    return int(span[1]) if span else None


def part(request, content):
    """Answer a request for a file, or for a range of its bytes."""
    span = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"] or "")
    if span is None or request.command == "HEAD":
        return 200, {"Content-Length": str(len(content)), "Accept-Ranges": "bytes"}, content
    first, last = int(span[1]), min(int(span[2]), len(content) - 1)
    place = f"bytes {first}-{last}/{len(content)}"
    return 206, {"Content-Range": place}, content[first : last + 1]


def geotiff(size=512, block=256, overviews=()):
    """Return a tiled GeoTIFF of ones. Its block offsets stand before its georeference."""
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=size, height=size, count=1, dtype="uint8", tiled=True,
            blockxsize=block, blockysize=block, crs="EPSG:4326", transform=from_origin(3, 52, 0.25, 0.25),
        ) as dataset:  # fmt: skip
            dataset.write(np.ones((1, size, size), "uint8"))
            if overviews:
                dataset.build_overviews(overviews)
        return memory.read()


# no sidecar files and no directory listing
PLAIN = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}


def tell(happens, should, *, is_there):
    """Print what happens and what should, and end with 0 if the defect is there, otherwise with 3."""
    print(f"rasterio {rasterio.__version__}, GDAL {rasterio.__gdal_version__}")
    print(f"happens: {happens}")
    print(f"should:  {should}")
    print(f"The defect is {'there' if is_there else 'gone'}.")
    sys.stdout.flush()
    sys.exit(0 if is_there else 3)
