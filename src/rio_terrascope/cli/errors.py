"""What went wrong, in one line that ends with what to do next."""

import errno
import re
from urllib.parse import urlsplit

from rasterio.errors import CRSError, RasterioError, RasterioIOError

from rio_terrascope import certificates
from rio_terrascope.errors import TerrascopeError

_URL = re.compile(r"(?:/vsicurl/)?(https?://[^\s'\"?]+)")


def in_words(error: BaseException) -> str:
    """Say in one line what an error means.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str
    """
    message = " ".join(str(error).split())
    if isinstance(error, TerrascopeError | ImportError):
        return message
    if isinstance(error, CRSError):
        return f"{message.rstrip('.')}. Next: give the CRS as rio does, EPSG:4326 say."
    if isinstance(error, RasterioIOError):
        return _read_trouble(message, _innermost(error))
    # GDAL's own errors, which rasterio passes on here and there, have no public class
    if isinstance(error, RasterioError) or type(error).__name__.startswith("CPLE_"):
        return f"{message.rstrip('.')}."
    if isinstance(error, ValueError):  # the library's functions say so what arguments they cannot use
        return f"{message.rstrip('.')}."
    if isinstance(error, OSError):
        return _system_trouble(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory. Next: ask for a smaller box, or a coarser --resolution."
    return (
        f"{type(error).__name__}: {message}. This was not foreseen; 'tsread -vv ...' shows where it happened."
    )


def _read_trouble(message: str, cause: str) -> str:
    """Say what GDAL's message means to who reads a raster."""
    found = _URL.search(message)
    url = found[1].rstrip(":.,") if found else None
    host = urlsplit(url).netloc if url else "the server"
    where = f"{url}: " if url else ""
    status = re.search(r"response code: (\d+)", message)
    if status and status[1] == "404":
        return f"{where}there is no such file at {host} (404). Next: check the URL."
    if status and status[1] in ("401", "403"):
        return (
            f"{where}{host} refuses it ({status[1]}). Next: if it is Terrascope's, see what "
            "'tsread doctor URL' says; else it wants a login that tsread does not have."
        )
    if status:
        return f"{where}{host} is in trouble, it answered {status[1]}. Next: try again in a while."
    if advice := certificates.advice_for_gdal(message):
        what = message[message.index("CURL error: ") :].removeprefix("CURL error: ").rstrip(".")
        return f"{where}the certificate of {host} is not accepted ({what}). Next: {advice}."
    if curl := re.search(r"CURL error: (.*)", message):
        return (
            f"{where}{host} cannot be reached ({curl[1].rstrip('.')}). Next: check the URL and your network."
        )
    if "Read failed" in message or "read failed" in message:
        what = f"{where}the read broke off ({cause.rstrip('.')})"
        if url:
            return (
                f"{what}; {host} stopped answering, or refused. Next: try again, or see 'tsread doctor URL'."
            )
        return f"{what}. Next: check the file, it may be damaged."
    if "not recognized as being in a supported file format" in message:
        quoted = re.search(r"'([^']*)' not recognized", message)
        name = url or (quoted[1] if quoted else "it")
        return f"{name} is not a raster that GDAL can read. Next: check the path or URL."
    # rasterio names a local file where the library has done so already
    first, _, rest = message.partition(": ")
    return f"{(rest if rest.startswith(first) else message).rstrip('.')}."


def _system_trouble(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"{name}no space is left on the disk. Next: make room, or write elsewhere (-o, TMPDIR)."
    return f"{name}{error.strerror or error or type(error).__name__}."


def _innermost(error: BaseException) -> str:
    """Return the message at the bottom of a chain of exceptions, where GDAL says most."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(error).split())
