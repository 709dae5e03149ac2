"""The Authorization line, in GDAL's memory. GDAL reads it again at each request."""

import ctypes
import errno
import secrets

from rio_terrascope.gdal import libgdal
from rio_terrascope.secret import Secret


class Header:
    """A file with the Authorization line under ``/vsimem/``, for GDAL_HTTP_HEADER_FILE to name.

    Its name is random, so that it cannot be guessed, and two copies of this package do not meet. No
    token is on disk, and none outlives the process. A forked child has its own copy.

    Attributes
    ----------
    path : str
    """

    def __init__(self) -> None:
        self.path = f"/vsimem/rio-terrascope/{secrets.token_hex(16)}/header"

    def __repr__(self) -> str:
        return "<Header>"

    def write(self, access_token: str | Secret) -> None:
        """Replace the token in one step: a request finds the old line or the new one.

        Raises
        ------
        OSError
            If GDAL has no memory for it. The old line stays then.
        """
        line = Secret(f"Authorization: Bearer {Secret.of(access_token).reveal()}\n")
        del access_token
        size = len(line.reveal().encode())
        lib = libgdal.load()
        buffer = lib.VSIMalloc(size)
        if not buffer:
            raise OSError(errno.ENOMEM, "GDAL has no memory for the token")
        ctypes.memmove(buffer, line.reveal().encode(), size)
        # GDAL owns the buffer from here on, and frees it when the last reader is done
        lib.VSIFCloseL(lib.VSIFileFromMemBuffer(self.path.encode(), buffer, size, True))

    @property
    def is_there(self) -> bool:
        """Whether the file exists. Other code of the process may empty ``/vsimem/``."""
        return exists(self.path)

    def remove(self) -> None:
        """Remove the file and its folder."""
        libgdal.load().VSIRmdirRecursive(self.path.rpartition("/")[0].encode())


def exists(path: str) -> bool:
    """Tell whether GDAL can read a header file, in memory or on disk."""
    lib = libgdal.load()
    file = lib.VSIFOpenL(path.encode(), b"rb")
    if file:
        lib.VSIFCloseL(file)
    return bool(file)
