"""Errors in the user's words: one line, with the next step."""

import errno

from rasterio.errors import CRSError, RasterioError, RasterioIOError

from rio_terrascope.errors import NEXT, TerrascopeError, with_next_step
from rio_terrascope.gdal import messages
from rio_terrascope.settings import shown

_TRY = "try again, or see 'tsread doctor URL'"


def describe_error(error: BaseException) -> str:
    """Return the line that tells the user what went wrong. Its URLs are cut to host and path.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str
    """
    return shown(_described(error))


def _described(error: BaseException) -> str:
    message = " ".join(str(error).split())
    if isinstance(error, TerrascopeError | ImportError):
        return message
    if isinstance(error, CRSError):
        return with_next_step(message, "give the CRS as rio does, for example EPSG:4326")
    if isinstance(error, RasterioIOError):
        return _read_trouble(error, _innermost(error))
    # ValueError refuses an argument; GDAL's own errors, which rasterio may pass on, have private classes
    if isinstance(error, RasterioError | ValueError) or type(error).__name__.startswith("CPLE_"):
        return f"{message.rstrip('.')}."
    if isinstance(error, OSError):
        return _system_trouble(error)
    if isinstance(error, MemoryError):
        return with_next_step(
            "there is not enough memory", "ask for a smaller box, or a coarser --resolution"
        )
    return with_next_step(
        f"unexpected {type(error).__name__}: {message}", "run 'tsread -vv ...' to see where it happened"
    )


def _read_trouble(error: RasterioIOError, cause: str) -> str:
    """Explain an error of reading a raster."""
    message = " ".join(str(error).split())
    if NEXT in message:
        return message
    url = messages.url_in(error)
    host = url.split("/")[2].rpartition("@")[2] if url else "the server"
    where = f"{url}: " if url else ""
    status = messages.http_status(error)
    if status == 404:
        return with_next_step(f"{where}there is no such file at {host} (404)", "check the URL")
    if status in (401, 403):
        return with_next_step(
            f"{where}{host} refuses it ({status})",
            "if it is Terrascope's, run 'tsread doctor URL'; else it wants a login that tsread does not have",
        )
    if status:
        return with_next_step(f"{where}{host} is in trouble, it answered {status}", "try again in a while")
    said = messages.network_trouble(error)
    if advice := messages.certificate_advice(error):
        return with_next_step(f"{where}the certificate of {host} is not accepted ({said})", advice)
    if said:
        return with_next_step(f"{where}{host} cannot be reached ({said})", "check the URL and your network")
    if messages.is_failed_read(error):
        what = f"{where}the pixels cannot be read ({cause.removeprefix(where).rstrip('.')})"
        return with_next_step(what, _TRY if url else "check the file, it may be damaged")
    if messages.is_not_a_raster(error):
        name = url or messages.quoted_name(error) or "it"
        return with_next_step(f"{name} is not a raster that GDAL can read", "check the path or URL")
    if url:
        return with_next_step(message, _TRY)
    # rasterio names a local file a second time, after the library
    first, _, rest = message.partition(": ")
    what = f"{(rest if rest.startswith(first) else message).rstrip('.')}."
    return with_next_step(what, "check the path") if messages.is_missing_file(error) else what


def _system_trouble(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename else ""
    if error.errno == errno.ENOSPC:
        return with_next_step(
            f"{name}no space is left on the disk", "make room, or write elsewhere (-o, TMPDIR)"
        )
    what = f"{name}{error.strerror or error or type(error).__name__}."
    return with_next_step(what, "check the path") if error.errno == errno.ENOENT else what


def _innermost(error: BaseException) -> str:
    """Return the message at the bottom of a chain of exceptions, where GDAL says most."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(error).split())
