"""The token endpoint: the password grant and the refresh grant of OpenID Connect.

Terrascope's own authentication page shows the two requests (RFC 6749, sections 4.3 and 6, at a
Keycloak realm).
"""

import json
import logging
import math
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeGuard

import requests

from rio_terrascope import certificates
from rio_terrascope.errors import InvalidCredentialsError, TokenEndpointError
from rio_terrascope.http import new_session
from rio_terrascope.settings import Settings

log = logging.getLogger(__name__)

TIMEOUT = (10.0, 30.0)  # seconds to connect, seconds between two bytes
ANSWER_LIMIT = 256 * 1024  # bytes; a real answer has about 4 KB
ANSWER_SECONDS = 60.0  # for a body that drips in byte by byte
ATTEMPTS = 4
RETRY_AFTER_LIMIT = 30.0  # seconds; a longer wait is reported instead

# The characters of a bearer token (RFC 6750, section 2.1). Anything else must not reach a header,
# least of all a line break.
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_TOKEN_LIMIT = 16 * 1024  # characters; servers refuse longer headers
_LIFETIME_LIMIT = 366 * 24 * 3600.0

# Keycloak's reasons, for people who have never heard of Keycloak
_PLAIN_WORDS = {
    "Invalid user credentials": "the username or password is wrong",
    "Account is not fully set up": (
        "the account is not fully set up: log in once at https://terrascope.be in a browser "
        "and complete what it asks for"
    ),
    "Account disabled": "the account is disabled, perhaps for a while after too many wrong passwords",
    "Account is temporarily disabled": "the account is locked for a while after too many wrong passwords",
}


class RefreshRefusedError(InvalidCredentialsError):
    """The refresh token is no longer accepted: used, expired, or its session has ended.

    Attributes
    ----------
    reason : str
        The server's own words, if it said any.
    """

    def __init__(self, what: str, *, next_step: str | None = None, reason: str = "it was refused") -> None:
        super().__init__(what, next_step=next_step)
        self.reason = reason


@dataclass(frozen=True)
class Token:
    """An access token and what belongs to it. Its ``repr`` and ``str`` show no secret.

    Attributes
    ----------
    access_token : str
        For ``Authorization: Bearer ...``.
    expires_at : float
        When it expires, in seconds since the epoch on this machine's clock.
    refresh_token : str or None
    refresh_expires_at : float or None
        None if the server did not say, or if the refresh token does not expire.
    scope : str
    """

    access_token: str = field(repr=False)
    expires_at: float
    refresh_token: str | None = field(default=None, repr=False)
    refresh_expires_at: float | None = None
    scope: str = ""


class Endpoint(Protocol):
    """The methods that a `TokenSource` needs of a token endpoint."""

    def password_grant(self, username: str, password: str, *, attempts: int) -> Token:
        """Log in; raise InvalidCredentialsError if the password is refused."""

    def refresh_grant(self, refresh_token: str, *, attempts: int) -> Token:
        """Renew; raise RefreshRefusedError if the refresh token is refused."""


class TokenEndpoint:
    """The token endpoint of a Keycloak realm.

    Connection trouble, 429 and 5xx are retried, up to `attempts` requests in all, with exponential
    back-off and jitter, or when ``Retry-After`` asks for it. A 400, 401 or 403 is final and never
    retried, since accounts get locked.

    Parameters
    ----------
    settings : Settings
    clock : callable, optional
        Seconds since the epoch, ``time.time``.
    sleep : callable, optional
        Waits that many seconds between two attempts, ``time.sleep``. It may raise, to give up.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"TokenEndpoint({self.settings.token_url!r})"

    def password_grant(self, username: str, password: str, *, attempts: int = ATTEMPTS) -> Token:
        """Log in with a username and a password (RFC 6749, section 4.3).

        Raises
        ------
        InvalidCredentialsError
            The password was refused, or the account cannot log in. The password is sent once.
        TokenEndpointError
            The endpoint cannot be reached, or did not answer with a token.
        """
        form = _Form(grant_type="password", username=username, password=password)
        del password  # from the frame, which tools that print local variables would show
        return self._grant(form, attempts)

    def refresh_grant(self, refresh_token: str, *, attempts: int = ATTEMPTS) -> Token:
        """Trade a refresh token for a new pair (RFC 6749, section 6).

        Raises
        ------
        RefreshRefusedError
            The refresh token is no longer accepted, so a password grant is needed.
        TokenEndpointError
            The endpoint cannot be reached, or did not answer with a token.
        """
        form = _Form(grant_type="refresh_token", refresh_token=refresh_token)
        del refresh_token
        return self._grant(form, attempts)

    def _grant(self, form: "_Form", attempts: int) -> Token:
        form["client_id"] = self.settings.client_id
        for attempt in range(1, attempts + 1):
            asked_at = self._clock()
            answer = self._post(form)
            if not answer.may_pass:
                return self._read(answer, form, asked_at)
            if attempt < attempts:
                wait = answer.retry_after
                if wait is None:
                    wait = random.uniform(0.5, 1.0) * 0.5 * 2**attempt  # noqa: S311
                log.info("%s; trying again in %.1f s", answer.summary, wait)
                self._sleep(wait)
        often = f", {attempts} times" if attempts > 1 else ""
        raise TokenEndpointError(
            self._no_login(f"{answer.summary}{often}"),
            next_step="try again in a while; if it stays, check your network, HTTPS_PROXY and "
            "TERRASCOPE_TOKEN_URL",
            retry_after=answer.retry_after,
        )

    def _post(self, form: "_Form") -> "_Answer":
        """Send the form once. Connection trouble is returned as an answer too.

        No exception of requests is kept, not even as the context of ours: it holds the request,
        and the request holds the password.
        """
        bundle = certificates.for_requests()
        try:
            with (
                # a new session for each request, since they are minutes apart, and a forked
                # child must not share a connection that its parent keeps open
                new_session(self.settings.token_url, bundle) as session,
                session.post(
                    self.settings.token_url,
                    data=form,
                    headers={"Accept": "application/json"},
                    timeout=TIMEOUT,
                    stream=True,
                ) as response,
            ):
                return _Answer.of(response, self._clock())
        except requests.exceptions.SSLError as error:
            # the connection ended in the middle of the handshake
            if isinstance(certificates.innermost(error), ssl.SSLEOFError | ssl.SSLZeroReturnError):
                return _Answer(f"the TLS connection failed ({_innermost(error)})", may_pass=True)
            what, advice = certificates.why_refused(error, bundle)
            return _Answer(what, advice=advice)
        except requests.exceptions.Timeout:
            return _Answer("no answer in time", may_pass=True)
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            return _Answer(f"the connection failed ({_innermost(error)})", may_pass=True)
        except requests.exceptions.RequestException as error:
            return _Answer(f"the request could not be made ({type(error).__name__})")
        except OSError as error:  # the file of certificates is missing
            what, advice = certificates.why_refused(error, bundle)
            return _Answer(what, advice=advice)

    def _read(self, answer: "_Answer", form: "_Form", asked_at: float) -> Token:
        """Return the token of a final answer, or raise the exception that it means."""
        fields = answer.json()
        if answer.status == 200:
            reason = _fault_in(fields)
            if reason is None:
                return _token(fields, asked_at)
            raise TokenEndpointError(
                self._no_login(f"the answer is not a token: {reason}"), next_step="check TERRASCOPE_TOKEN_URL"
            )
        said = form.scrub(str(fields.get("error_description") or ""))
        code = form.scrub(str(fields.get("error") or ""))
        if code == "invalid_grant" and form["grant_type"] == "refresh_token":
            reason = said or code
            raise RefreshRefusedError(
                self._no_login(f"the login has ended ({reason})"), next_step="log in again", reason=reason
            )
        if code == "invalid_grant":
            plain = _PLAIN_WORDS.get(said)
            reason = f"{plain} ({said})" if plain else said or "the username or password is wrong"
            raise InvalidCredentialsError(
                self._no_login(f"user {form['username']} was refused: {reason}"),
                next_step="check the username and password; they were sent once and will not be retried "
                "automatically",
            )
        if code in ("invalid_client", "unauthorized_client"):
            reason = f"the client id {self.settings.client_id!r} was refused ({said or code})"
            raise TokenEndpointError(
                self._no_login(reason), next_step="unset TERRASCOPE_CLIENT_ID, or check it"
            )
        reason = answer.summary + (f" ({code}{': ' if code and said else ''}{said})" if code or said else "")
        advice = answer.advice or "check TERRASCOPE_TOKEN_URL and your network's proxy"
        if answer.retry_after is not None:
            advice = "try again then"
        raise TokenEndpointError(self._no_login(reason), next_step=advice, retry_after=answer.retry_after)

    def _no_login(self, reason: str) -> str:
        return f"no login at {self.settings.token_host}: {reason}"


class _Form(dict[str, str]):
    """The form fields. Their repr shows no secret, for tools that print local variables."""

    def __repr__(self) -> str:
        return f"<form: {self.get('grant_type')}>"

    def scrub(self, text: str) -> str:
        """Make a server's words fit to print: one short line, without the secrets just sent."""
        for name in ("password", "refresh_token"):
            if self.get(name):
                text = text.replace(self[name], "***")
        return "".join(c if c.isprintable() else " " for c in text)[:200].strip()


@dataclass(frozen=True)
class _Answer:
    """The outcome of one POST: a status and a body, or the trouble that prevented them."""

    summary: str
    status: int = 0
    body: bytes = field(default=b"", repr=False)
    may_pass: bool = False  # another attempt may succeed
    retry_after: float | None = None  # seconds
    advice: str = ""  # the next step, if it is known already

    @classmethod
    def of(cls, response: requests.Response, now: float) -> "_Answer":
        status = response.status_code
        summary = f"it answered {status}"
        if status == 429 or status >= 500:
            # a date counts from the server's clock, if it tells the time: ours may be wrong by hours
            server_now = _timestamp(response.headers.get("Date"), now)
            asked = _seconds(response.headers.get("Retry-After"), server_now)
            if asked is not None and asked > RETRY_AFTER_LIMIT:
                return cls(f"{summary} and asks to come back in {asked:.0f} s", status, retry_after=asked)
            return cls(summary, status, may_pass=True, retry_after=asked)
        if response.is_redirect:
            return cls(f"{summary}, a redirect, which is not followed with a password", status)
        body = bytearray()
        deadline = time.monotonic() + ANSWER_SECONDS
        for byte in response.iter_content(1):  # a larger size would wait for bytes that never come
            body += byte
            if len(body) > ANSWER_LIMIT or time.monotonic() > deadline:
                return cls(f"{summary} with a body without end")
        return cls(summary, status, bytes(body))

    def json(self) -> dict[str, Any]:
        """Return the fields of a JSON object; an empty dict for anything else."""
        try:
            fields = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return fields if isinstance(fields, dict) else {}


def _fault_in(fields: Mapping[str, Any]) -> str | None:
    """Say why the fields of an answer are not a token, without quoting them."""
    token, expires_in = fields.get("access_token"), fields.get("expires_in")
    if not fields:
        return "it is not a JSON object"
    if not isinstance(token, str) or not token:
        return "it has no access_token"
    if len(token) > _TOKEN_LIMIT or not _BEARER.fullmatch(token):
        return "its access_token is too long, or has characters that a bearer token cannot have"
    if not isinstance(fields.get("token_type", "Bearer"), str) or (
        fields.get("token_type", "Bearer").lower() != "bearer"
    ):
        return "its token_type is not Bearer"
    if not _is_number(expires_in) or not 0 < expires_in <= _LIFETIME_LIMIT:
        return "its expires_in is missing or absurd"
    return None


def _token(fields: Mapping[str, Any], asked_at: float) -> Token:
    refresh, lifetime = fields.get("refresh_token"), fields.get("refresh_expires_in")
    # Keycloak sends 0 for a refresh token that does not expire
    limit = asked_at + lifetime if _is_number(lifetime) and lifetime > 0 else None
    return Token(
        access_token=fields["access_token"],
        # counted from before the request, so that it never ends later than the server says
        expires_at=asked_at + fields["expires_in"],
        refresh_token=refresh if isinstance(refresh, str) and refresh else None,
        refresh_expires_at=limit,
        scope=fields["scope"] if isinstance(fields.get("scope"), str) else "",
    )


def _is_number(value: Any) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON has integers of any length
        return False


def _seconds(retry_after: str | None, now: float) -> float | None:
    """Read a Retry-After header: seconds, or an HTTP date (RFC 9110, section 10.2.3)."""
    if not retry_after:
        return None
    try:
        if retry_after.strip().isdecimal():
            return float(retry_after)
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _timestamp(date: str | None, default: float) -> float:
    """Read a Date header (RFC 9110, section 6.6.1)."""
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return default


def _innermost(error: BaseException) -> str:
    """Name the innermost cause of an exception of requests, for example 'Connection refused'."""
    cause = certificates.innermost(error)
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return type(cause).__name__
