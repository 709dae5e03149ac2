"""One look at a URL before GDAL opens it: its target, and whether the file is still the same.

If an origin redirects the HEAD request with which GDAL asks for a file's size, GDAL may repeat it at the
other host with all lines of the header file. So GDAL is never given such a URL. It opens what the URL leads
to, as a URL of another host: without a token. If only GET is redirected, curl leaves the token out.
"""

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from rio_terrascope import certificates
from rio_terrascope.auth.oidc import Token
from rio_terrascope.gdal import cache
from rio_terrascope.http import Answer, NoAnswerError, ask

REMEMBERED = 60.0  # seconds
MOST_REDIRECTS = 10  # as in GDAL
_MOST_URLS = 1000
_TRANSIENT = (429, 500, 502, 503, 504)  # GDAL tries these again, too
_SAME_FOR_GET = (401, 404, 410, *_TRANSIENT)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Look:
    """What a server says about a URL.

    Attributes
    ----------
    status : int
        The HTTP status of the last answer.
    final_url : str
        Where the redirects end; the URL itself, to the letter, if there are none.
    content_type : str
        Of the last answer; empty if it has none.
    version : tuple of str
        The ETag, the Last-Modified date and the size of the file, as far as the last answer names them.
    """

    status: int
    final_url: str
    content_type: str = ""
    version: tuple[str, str, str] = ("", "", "")

    @property
    def is_page(self) -> bool:
        """Whether the answer is a web page."""
        return self.content_type.startswith("text/html")

    @property
    def is_multipart(self) -> bool:
        """Whether the server answers one range as if it were several. GDAL takes all of that for the file."""
        return self.content_type.startswith("multipart/")


def look(
    url: str,
    token: Token,
    *,
    retries: int = 3,
    delay: float = 0.5,
    seconds: float = 40.0,
) -> Look:
    """Ask for a URL, and follow its redirects. Only the URL's own origin gets the token.

    The request is HEAD, as GDAL's is; GET for the first bytes if HEAD fails, and at other hosts.

    A good answer is remembered for 60 s. Threads that ask for one URL at a time share one request. If the
    file is not known to be the one that was seen last, GDAL's cache is cleared for it first.

    Parameters
    ----------
    url : str
        A URL, or a path that begins with ``/vsicurl/``.
    token : Token
    retries, delay : int, float
        How often to ask again after a passing trouble, and the seconds before the first time. The pause
        doubles each time.
    seconds : float
        For one answer, from the look-up of the name to its last header.

    Returns
    -------
    Look

    Raises
    ------
    NoAnswerError
        If the origin does not answer, or redirects too often.
    """
    url = _plain(url)
    with _lock:
        memory = _memories.setdefault(url, _Memory())
        _memories.move_to_end(url)
        if len(_memories) > _MOST_URLS:
            _memories.popitem(last=False)
    with memory.lock:
        if memory.seen is not None and time.monotonic() - memory.at < REMEMBERED:
            return memory.seen
        seen = _ask(url, token, retries, delay, seconds)
        if 200 <= seen.status < 300 and not seen.is_multipart:
            if memory.seen is None or memory.seen.version != seen.version:
                cache.forget(seen.final_url)
            memory.seen, memory.at = seen, time.monotonic()
            memory.targets.add(seen.final_url)
        return seen


def forget(beginning: str) -> None:
    """Forget what was seen at all URLs that begin so. Clear GDAL's cache for them and what they led to."""
    cache.forget(beginning)
    beginning = _plain(beginning)
    with _lock:
        forgotten = {url: _memories.pop(url) for url in list(_memories) if url.startswith(beginning)}
    for url, memory in forgotten.items():
        for target in memory.targets - {url}:
            cache.forget(target)


@dataclass
class _Memory:
    lock: threading.Lock = field(default_factory=threading.Lock)  # held while the URL is asked
    seen: Look | None = None
    at: float = 0.0  # on the monotonic clock
    targets: set[str] = field(default_factory=set)  # all that the URL has led to


_memories: OrderedDict[str, _Memory] = OrderedDict()  # by URL, the one used last at the end
_lock = threading.Lock()  # never held over a request


def _ask(url: str, token: Token, retries: int, delay: float, seconds: float) -> Look:
    """Ask until an answer is more than a passing trouble, or it has lasted too long."""
    for pause in (delay * 2**attempt for attempt in range(retries)):
        try:
            seen = _follow(url, token, seconds)
            if seen.status not in _TRANSIENT:
                return seen
        except NoAnswerError as error:
            if not error.may_pass:
                raise
        time.sleep(pause)
    return _follow(url, token, seconds)


def _follow(url: str, token: Token, seconds: float) -> Look:
    here, origin = url, origin_of(url)
    for _ in range(MOST_REDIRECTS + 1):
        at_home = origin_of(here) == origin
        try:
            answer = _first_answer(here, token if at_home else None, seconds)
        except NoAnswerError:
            if at_home:
                raise
            # GDAL opens what is not at the origin without the token, so its own error will do
            return Look(200, here)
        if not answer.is_redirect:
            return _read(answer, here if here == url else answer.url)
        here = next_url(here, answer)
    raise NoAnswerError(f"more than {MOST_REDIRECTS} redirects in a row")


def _read(answer: Answer, final_url: str) -> Look:
    said = answer.headers
    size = said.get("Content-Range", "").rpartition("/")[2] or said.get("Content-Length", "")
    version = (said.get("ETag", ""), said.get("Last-Modified", ""), size)
    return Look(answer.status, final_url, said.get("Content-Type", ""), version)


def _first_answer(url: str, token: Token | None, seconds: float) -> Answer:
    for method in ("HEAD", "GET") if token else ("GET",):  # a signature in a URL is for GET
        first_bytes = {"Range": "bytes=0-255"} if method == "GET" else {}
        answer = ask(
            method,
            url,
            certificates.for_gdal(),
            seconds=seconds,
            headers={"Accept-Encoding": "identity"} | first_bytes,
            access_token=token.access_secret if token else None,
            read=lambda answer: answer,
        )
        if answer.status < 400 or answer.status in _SAME_FOR_GET:
            break
    return answer


def next_url(here: str, answer: Answer) -> str:
    """Return the URL that a redirect leads to.

    Raises
    ------
    NoAnswerError
        If it is not an ``http(s)://`` URL.
    """
    try:
        # http.client decodes UTF-8 as Latin-1
        target = urljoin(here, answer.headers["Location"].encode("latin-1").decode())
        origin_of(target)
        return target
    except ValueError:
        raise NoAnswerError("it redirects to something that is not an http(s):// URL") from None


def origin_of(url: str) -> tuple[str, str, int]:
    """Return the scheme, the host in lower case and the port of an ``http(s)://`` URL.

    Raises
    ------
    ValueError
        If it is another kind of URL, or malformed.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("not an http(s):// URL")
    return parts.scheme, parts.hostname, parts.port if parts.port is not None else _PORTS[parts.scheme]


def _plain(url: str) -> str:
    return url.removeprefix("/vsicurl/")


def _after_fork_in_child() -> None:
    # threads of the parent may have held a lock, and do not survive a fork
    global _lock
    _lock = threading.Lock()
    _memories.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_after_fork_in_child)
