"""Files in memory for GDAL to read: whole ones, and ones of which only some pieces are there.

GDAL reads the bytes where Python keeps them, without a copy. Nothing here can reach the network or the disk.

If libgdal does not let its functions be called, rasterio does the same through Python, and more slowly.
"""

import contextlib
import io
import secrets
from collections.abc import Iterable, Iterator

import numpy as np
import rasterio
from rasterio.io import MemoryFile

from rio_terrascope.gdal import libgdal

Buffer = bytes | bytearray | memoryview
Piece = tuple[int, Buffer]
"""The offset of some bytes in their file, and the bytes."""

_REGION = (
    "<SubfileRegion><Filename>{}</Filename><DestinationOffset>{}</DestinationOffset>"
    "<RegionLength>{}</RegionLength></SubfileRegion>"
)


@contextlib.contextmanager
def whole_file(name: str, content: Buffer) -> Iterator[str]:
    """Give GDAL a file in memory.

    Parameters
    ----------
    name : str
        The name of the file, without a folder. Some drivers look at how it ends.
    content : bytes-like
        Must not change inside the block.

    Yields
    ------
    str
        The path of the file. It ends with `name`, and nothing else lies in its folder.
    """
    if libgdal.why_not_scoped() is not None:
        with MemoryFile(bytes(content), filename=name) as file:
            yield file.name
        return
    folder = _new_folder()
    path = f"{folder}/{name}"
    with _registered(folder, {path: content}):
        yield path


@contextlib.contextmanager
def sparse_file(size: int, pieces: Iterable[Piece], *, name: str = "file") -> Iterator[str]:
    """Give GDAL a file in memory of which only some pieces are there. Reading anything else fails.

    Parameters
    ----------
    size : int
        Of the whole file, in bytes.
    pieces : iterable of (offset, bytes-like)
        In any order. They must not change inside the block. If two overlap, the first one counts.
    name : str
        The name of the file, without a folder.

    Yields
    ------
    str
        The path of the file. Several threads may open it.
    """
    if libgdal.why_not_scoped() is not None:
        parts = list(pieces)
        # the path stays good for as long as this dataset is open
        with rasterio.open(name, opener=lambda path, mode="rb": _Pieces(size, parts), driver="GTiff") as file:
            yield file.name
        return
    folder = _new_folder()
    files: dict[str, Buffer] = {}
    regions = []
    for number, (offset, content) in enumerate(pieces):
        if len(content):
            path = f"{folder}/{number}"
            files[path] = content
            regions.append(_REGION.format(path, offset, memoryview(content).nbytes))
    # GDAL reads zeros where there is no region, and fails where the region's file does not exist
    regions.append(_REGION.format(f"{folder}/not-there", 0, size))
    plan = f"{folder}/plan/{name}"
    files[plan] = f"<VSISparseFile><Length>{size}</Length>{''.join(regions)}</VSISparseFile>".encode()
    with _registered(folder, files):
        yield f"/vsisparse/{plan}"


def _new_folder() -> str:
    """Return a folder's name that no other thread, forked process or copy of this package has."""
    return f"/vsimem/rio-terrascope/{secrets.token_hex(16)}"


@contextlib.contextmanager
def _registered(folder: str, files: dict[str, Buffer]) -> Iterator[None]:
    lib = libgdal.load()
    # arrays over the same memory: they know its address, and keep it alive until the files are gone
    arrays = {path.encode(): np.frombuffer(content, np.uint8) for path, content in files.items()}
    try:
        for path, array in arrays.items():
            lib.VSIFCloseL(lib.VSIFileFromMemBuffer(path, array.ctypes.data, array.size, False))
        yield
    finally:
        # unlinking the files would leave the folders, and what GDAL notes of them
        lib.VSIRmdirRecursive(folder.encode())


class _Pieces(io.RawIOBase):
    """A file of which only some pieces are there. Nothing comes from anywhere else."""

    def __init__(self, size: int, pieces: list[Piece]) -> None:
        self._size = size
        self._pieces = pieces
        self._at = 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        parts = []
        while size > 0 and (part := self._from_one_piece(size)):
            parts.append(part)
            self._at += len(part)
            size -= len(part)
        return b"".join(parts)  # short where something is missing: GDAL fails then

    def _from_one_piece(self, size: int) -> bytes:
        for offset, content in self._pieces:
            if offset <= self._at < offset + len(content):
                return bytes(content[self._at - offset : self._at - offset + size])
        return b""
