"""Which protocol an origin is asked by."""

from rio_terrascope.opening.look import origin_of
from rio_terrascope.reading.fetching.options import Options
from rio_terrascope.reading.fetching.transport import Http1, Transport, without_http2


def new_transport(url: str, options: Options, most: int) -> Transport:
    """Return the transport to the origin of a URL.

    It is `Http2`, if the extra ``[http2]`` is installed and the server may speak HTTP/2.

    Parameters
    ----------
    url : str
    options : Options
    most : int
        The most connections. HTTP/2 needs one.
    """
    if url.startswith("https:") and origin_of(url) not in without_http2:
        try:
            from rio_terrascope.reading.fetching.http2 import Http2
        except ImportError:
            pass
        else:
            return Http2(url, options, most)
    return Http1(url, options, most)
