"""What an answer means: every answer is checked here before its bytes count."""

import email.utils
import re
import time
from dataclasses import dataclass
from typing import Any

from rasterio.errors import RasterioIOError

from rio_terrascope.auth.oidc import Token
from rio_terrascope.errors import with_next_step
from rio_terrascope.gdal import messages
from rio_terrascope.http import Answer, NoAnswerError
from rio_terrascope.opening import refusals
from rio_terrascope.opening.look import next_url, origin_of
from rio_terrascope.opening.refusals import Refusal, access_denied, reason_in
from rio_terrascope.reading.fetching.source import Source
from rio_terrascope.settings import shown

MOST_REDIRECTS = 5
WHOLE = 1024 * 1024  # bytes; a server that does not know ranges may send a whole file of this size
LONGEST_PAUSE = 120.0  # seconds that a server can ask for
TRANSIENT = (429, 500, 502, 503, 504)
_REFUSED_ELSEWHERE = (400, 401, 403, 404, 410)  # what signed URLs answer when they have expired


@dataclass(frozen=True)
class Got:
    """The bytes of the range; fewer than asked for only where the file ends."""

    data: Any


@dataclass(frozen=True)
class Failed:
    """The error of the range."""

    error: Exception


@dataclass(frozen=True)
class GoOn:
    """The request goes on at once: at another URL, or with another token."""


@dataclass(frozen=True)
class Trouble:
    """A trouble that may pass.

    Attributes
    ----------
    error : Exception
        The error if it does not.
    crowded : bool
        Whether fewer requests at a time may help.
    refused : bool
        Whether the server has said so itself, with 429.
    pause : float or None
        The seconds that the server wants to be left alone.
    """

    error: Exception
    crowded: bool = False
    refused: bool = False
    pause: float | None = None


Outcome = Got | Failed | GoOn | Trouble


class Steps:
    """The way of one range from its URL over redirects and a renewed login to its bytes.

    Attributes
    ----------
    url : str
        The next to ask.
    """

    __slots__ = (
        "_from_memory",
        "_redirects",
        "_renewed",
        "_restarts",
        "_token",
        "length",
        "offset",
        "source",
        "url",
    )

    def __init__(self, source: Source, offset: int, length: int) -> None:
        self.source, self.offset, self.length = source, offset, length
        self._redirects = 0
        self._restarts = 0
        self._renewed = False
        self._token: Token | None = None  # the last one that was sent
        self.aim()

    def __reduce__(self) -> str:
        raise TypeError("steps cannot be pickled: they hold a token")

    def aim(self) -> None:
        """Choose the URL to begin with: the target that other requests were led to, if it is known."""
        if self._redirects == 0:
            known = self.source.target if self._restarts < 2 else None
            self.url, self._from_memory = known or self.source.asked, known is not None

    def token(self) -> Token | None:
        """Return the token for the next request."""
        token = self.source.token_for(self.url)
        self._token = token or self._token
        return token

    def headers(self) -> dict[str, str]:
        """Return the headers of the next request, without the token."""
        last = self.offset + self.length - 1
        return self.source.headers_for(self.url) | {"Range": f"bytes={self.offset}-{last}"}

    def no_answer(self, error: NoAnswerError) -> Outcome:
        """Judge that there was no answer."""
        found = messages.no_answer(self.source.url, error)
        return Trouble(found, crowded=True) if error.may_pass else Failed(found)

    def judge(self, answer: Answer) -> Outcome:
        """Judge an answer."""
        if answer.is_redirect:
            return self._redirected(answer)
        if answer.status in TRANSIENT:
            return self._in_trouble(answer)
        at_home = origin_of(self.url) == self.source.origin
        if not at_home and answer.status in _REFUSED_ELSEWHERE and self._from_memory:
            if self.source.target == self.url:
                self.source.target = None
            self._start_again()
            return GoOn()
        if answer.status in (401, 403):
            return self._refused(answer, at_home)
        content_type = answer.headers.get("Content-Type", "").lower()
        if answer.status in (200, 206) or 300 <= answer.status < 400:
            if content_type.startswith("text/html"):
                return self._page(answer)
            if content_type.startswith("multipart/"):
                return Failed(refusals.several_parts(self.source.url))
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                return self._wrong("the bytes are compressed (Content-Encoding), which nobody asked for")
        if answer.status == 206:
            return self._part(answer)
        if answer.status == 200:
            return self._whole(answer)
        if answer.status == 416 and (said := re.fullmatch(r"bytes \*/(\d+)", _content_range(answer))):
            checked = self._checked(answer, int(said[1]), b"")  # an empty file, or one that was replaced
            if said[1] == "0" or isinstance(checked, Failed):
                return checked
        return Failed(messages.bad_status(answer.status, self.source.url))

    def _start_again(self) -> None:
        self._redirects = 0
        self._restarts += 1
        self.aim()

    def _redirected(self, answer: Answer) -> Outcome:
        try:
            if self._redirects == MOST_REDIRECTS:
                raise NoAnswerError(f"more than {MOST_REDIRECTS} redirects in a row")
            self.url = next_url(self.url, answer)
        except NoAnswerError as error:
            return Failed(messages.no_answer(self.source.url, error))
        self._redirects += 1
        self._from_memory = False
        return GoOn()

    def _in_trouble(self, answer: Answer) -> Outcome:
        error = messages.bad_status(answer.status, self.source.url)
        pause = retry_after(answer)
        if pause is not None and pause > LONGEST_PAUSE:
            what = f"{error}, and it wants to be asked again in {pause:.0f} s"
            return Failed(RasterioIOError(with_next_step(what, "try again later")))
        return Trouble(error, crowded=answer.status in (429, 503), refused=answer.status == 429, pause=pause)

    def _refused(self, answer: Answer, at_home: bool) -> Outcome:
        source, token = self.source, self._token
        if source.env is None or token is None:
            return Failed(messages.bad_status(answer.status, source.url))
        if not at_home:
            return Failed(access_denied(source.url, refusals.elsewhere(self.url, answer.status)))
        refusal = refusals.at_origin(answer.status)
        if refusal.lapsed and self._renew(token):
            return GoOn()
        return Failed(access_denied(source.url, refusal, reason_in(answer, token)))

    def _page(self, answer: Answer) -> Outcome:
        source, token = self.source, self._token
        if source.env is None or token is None:
            return self._wrong("the answer is a web page (text/html)")
        if self._renew(token):
            self._start_again()
            return GoOn()
        return Failed(access_denied(source.url, Refusal(refusals.LOGIN_PAGE, answer.status, lapsed=True)))

    def _renew(self, stale: Token) -> bool:
        """Renew the login, once for all who were refused the same token. False if that was in vain."""
        source = self.source
        if self._renewed or source.env is None or stale is source.untried:
            return False
        self._renewed = True
        source.untried = source.env.tokens.refresh(stale)
        return True

    def _part(self, answer: Answer) -> Outcome:
        said = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", _content_range(answer))
        if said is None:
            return self._wrong("it does not say which bytes of the file it holds (Content-Range)")
        first, last, size = map(int, said.groups())
        if (first, last) != (self.offset, min(self.offset + self.length, size) - 1):
            # a cache on the way may have mixed answers up, and the next one may be right
            wrong = self._wrong(f"it holds the bytes {first}-{last} instead of those that were asked for")
            return Trouble(wrong.error)
        length = answer.headers.get("Content-Length", str(len(answer.body)))
        if length.isdecimal() and int(length) > last - first + 1:
            return self._wrong("it holds more bytes than it says")
        if len(answer.body) != last - first + 1:
            return Trouble(messages.no_answer(self.source.url, NoAnswerError("the answer is too short")))
        return self._checked(answer, size, answer.body)

    def _whole(self, answer: Answer) -> Outcome:
        said = answer.headers.get("Content-Length", "")
        if not said.isdecimal() or int(said) > WHOLE or len(answer.body) != int(said):
            return self._wrong("the server sends the whole file: it does not support range requests")
        return self._checked(answer, len(answer.body), answer.body[self.offset : self.offset + self.length])

    def _checked(self, answer: Answer, size: int, data: Any) -> Outcome:
        changed = self.source.why_another(answer, size)
        if changed is not None:
            return self._wrong(f"the file was replaced while it was read (another {changed})")
        if self._redirects:
            self.source.target = self.url
        self.source.untried = None
        return Got(data)

    def _wrong(self, what: str) -> Failed:
        return Failed(RasterioIOError(f"{shown(self.source.url)}: the answer cannot be used: {what}"))


def _content_range(answer: Answer) -> str:
    return answer.headers.get("Content-Range", "").strip()


def retry_after(answer: Answer) -> float | None:
    """Return the seconds that a server asks for (RFC 9110, section 10.2.3); None if it does not."""
    said = answer.headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdecimal():
        return float(said)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
