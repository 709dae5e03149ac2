"""The token endpoint: the password grant and the refresh grant of OpenID Connect.

Terrascope's own authentication page shows the two requests (RFC 6749, sections 4.3 and 6, at a
Keycloak realm).
"""

import copy
import hashlib
import json
import logging
import math
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeGuard

from rio_terrascope import certificates
from rio_terrascope.errors import InvalidCredentialsError, TerrascopeError, TokenEndpointError
from rio_terrascope.http import Answer, NoAnswerError, ask
from rio_terrascope.secret import Secret, also_half_made, hides
from rio_terrascope.settings import Settings

log = logging.getLogger(__name__)

Form = Mapping[str, str | Secret]

ANSWER_LIMIT = 256 * 1024  # bytes; a real answer has about 4 KB
ATTEMPTS = 4
RETRY_AFTER_LIMIT = 30.0  # seconds; a longer wait is reported instead
REASON_LIMIT = 1000  # characters; a real reason has about 50

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


# for these, the password was right
_PASSWORD_IS_RIGHT = ("Account is not fully set up",)


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


@hides("access_token", "refresh_token")
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

    @property
    def access_secret(self) -> Secret:
        """The access token, for code that passes it on."""
        secret: Secret = vars(self)["access_token"]
        return secret

    @property
    def refresh_secret(self) -> Secret | None:
        """The refresh token, for code that passes it on."""
        secret: Secret | None = vars(self)["refresh_token"]
        return secret

    def __reduce__(self) -> tuple[Any, ...]:
        return Token, astuple(self)


class Endpoint(Protocol):
    """The methods that a `TokenSource` needs of a token endpoint."""

    def password_grant(self, username: str, password: Secret, *, attempts: int) -> Token:
        """Log in; raise InvalidCredentialsError if the password is refused."""

    def refresh_grant(self, refresh_token: Secret, *, attempts: int) -> Token:
        """Renew; raise RefreshRefusedError if the refresh token is refused."""


class TokenEndpoint:
    """The token endpoint of a Keycloak realm.

    Connection trouble, 429 and 5xx are retried, up to `attempts` requests in all, with exponential
    back-off and jitter, or when ``Retry-After`` asks for it. All attempts together take at most
    `Settings.timeout` seconds. A 400, 401 or 403 is final and never retried, since accounts get locked.

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

    @also_half_made
    def __repr__(self) -> str:
        return f"TokenEndpoint({self.settings.token_url!r})"

    def password_grant(self, username: str, password: str | Secret, *, attempts: int = ATTEMPTS) -> Token:
        """Log in with a username and a password (RFC 6749, section 4.3).

        Raises
        ------
        InvalidCredentialsError
            The password was refused, or the account cannot log in. The password is sent once: this process
            does not send it again, whoever asks.
        TokenEndpointError
            The endpoint cannot be reached, or did not answer with a token.
        """
        password = Secret.of(password)
        form: Form = {"grant_type": "password", "username": username, "password": password}
        known = refusals.find(self.settings, form)
        if known is not None:
            raise known
        return self._grant(form, attempts)

    def refresh_grant(self, refresh_token: str | Secret, *, attempts: int = ATTEMPTS) -> Token:
        """Trade a refresh token for a new pair (RFC 6749, section 6).

        Raises
        ------
        RefreshRefusedError
            The refresh token is no longer accepted, so a password grant is needed.
        TokenEndpointError
            The endpoint cannot be reached, or did not answer with a token.
        """
        refresh_token = Secret.of(refresh_token)
        return self._grant({"grant_type": "refresh_token", "refresh_token": refresh_token}, attempts)

    def _grant(self, fields: Form, attempts: int) -> Token:
        form = {**fields, "client_id": self.settings.client_id}
        deadline = time.monotonic() + self.settings.timeout
        # If there are more attempts, a server that is silent gets half of the time. The other half is for
        # the next attempt.
        longest = self.settings.timeout / 2 if attempts > 1 else self.settings.timeout
        attempt = 1
        while True:
            outcome = self._post(form, min(longest, deadline - time.monotonic()))
            if outcome.token is not None:
                return outcome.token
            if not outcome.may_pass:
                raise self._error(outcome, form)
            wait = outcome.retry_after
            if wait is None:
                wait = random.uniform(0.5, 1.0) * 0.5 * 2**attempt  # noqa: S311
            if attempt == attempts or wait >= deadline - time.monotonic():
                break
            log.info("%s; trying again in %.1f s", outcome.summary, wait)
            self._sleep(wait)
            attempt += 1
        often = f", {attempt} times" if attempt > 1 else ""
        raise TokenEndpointError(
            self._no_login(f"{outcome.summary}{often}"),
            next_step="try again in a while; if it stays, check your network, HTTPS_PROXY and "
            "TERRASCOPE_TOKEN_URL",
            retry_after=outcome.retry_after,
        )

    def _post(self, form: Form, seconds: float) -> "_Outcome":
        """Send the form once. Connection trouble is returned as an outcome too."""
        asked_at = self._clock()
        secrets = [value for value in form.values() if isinstance(value, Secret)]
        try:
            return ask(
                "POST",
                self.settings.token_url,
                certificates.for_requests(),
                seconds=seconds,
                headers={"Accept": "application/json"},
                form=form,
                limit=ANSWER_LIMIT + 1,
                read=lambda answer: _Outcome.of(answer, secrets, asked_at, self._clock()),
            )
        except NoAnswerError as error:
            return _Outcome(str(error), may_pass=error.may_pass, advice=error.advice)

    def _error(self, outcome: "_Outcome", form: Form) -> TerrascopeError:
        """Return the exception that a final answer means."""
        code, said = outcome.code, outcome.said
        if outcome.fault:
            what = self._no_login(f"the answer is not a token: {outcome.fault}")
            return TokenEndpointError(what, next_step="check TERRASCOPE_TOKEN_URL")
        if code == "invalid_grant" and form["grant_type"] == "refresh_token":
            what = self._no_login(f"the login has ended ({said or code})")
            return RefreshRefusedError(what, next_step="log in again", reason=said or code)
        if code == "invalid_grant":
            plain = _PLAIN_WORDS.get(said)
            reason = f"{plain} ({said})" if plain else said or "the username or password is wrong"
            what = self._no_login(f"user {form['username']} was refused: {reason}")
            if said in _PASSWORD_IS_RIGHT:
                return InvalidCredentialsError(what, next_step="do that, and log in again")
            refusal = InvalidCredentialsError(
                what,
                next_step="check the username and password; they were sent once, and this process will not "
                "send them again (start Python again if they are right now)",
            )
            refusals.add(self.settings, form, refusal)
            return refusal
        if code in ("invalid_client", "unauthorized_client"):
            what = self._no_login(f"the client id {self.settings.client_id!r} was refused ({said or code})")
            return TokenEndpointError(what, next_step="unset TERRASCOPE_CLIENT_ID, or check it")
        reason = outcome.summary + (f" ({code}{': ' if code and said else ''}{said})" if code or said else "")
        advice = outcome.advice or "check TERRASCOPE_TOKEN_URL and your network's proxy"
        if outcome.retry_after is not None:
            advice = "try again then"
        return TokenEndpointError(self._no_login(reason), next_step=advice, retry_after=outcome.retry_after)

    def _no_login(self, reason: str) -> str:
        return f"no login at {self.settings.token_host}: {reason}"


class Refusals:
    """The passwords that were refused in this process, as hashes with a random salt.

    Accounts get locked if a wrong password is sent again and again, as a loop over blocks would do.
    """

    def __init__(self) -> None:
        self._salt = os.urandom(16)
        self._errors: dict[bytes, InvalidCredentialsError] = {}

    @also_half_made
    def __repr__(self) -> str:
        return f"<{len(self._errors)} refused passwords>"

    def find(self, settings: Settings, form: Form) -> InvalidCredentialsError | None:
        """Return the refusal of these credentials, if they were refused before."""
        error = self._errors.get(self._key(settings, form))
        return None if error is None else copy.copy(error)  # so that it does not collect tracebacks

    def add(self, settings: Settings, form: Form, error: InvalidCredentialsError) -> None:
        """Remember a refusal."""
        self._errors[self._key(settings, form)] = copy.copy(error)

    def clear(self) -> None:
        """Forget all refusals, for tests."""
        self._errors.clear()

    def _key(self, settings: Settings, form: Form) -> bytes:
        key = hashlib.blake2b(key=self._salt)
        for part in (settings.token_url, settings.client_id, form["username"], form["password"]):
            text = part.reveal if isinstance(part, Secret) else part.__str__
            key.update(hashlib.blake2b(text().encode("utf-8", "surrogatepass")).digest())
        return key.digest()


refusals = Refusals()


@dataclass(frozen=True)
class _Outcome:
    """The outcome of one POST: a token, the server's reason for none, or the trouble on the way."""

    summary: str
    token: Token | None = None
    fault: str = ""  # what is wrong with an answer that should be a token
    code: str = ""  # the server's error code and its words, fit to print
    said: str = ""
    may_pass: bool = False  # another attempt may succeed
    retry_after: float | None = None  # seconds
    advice: str = ""  # the next step, if it is known already

    @classmethod
    def of(cls, answer: Answer, secrets: list[Secret], asked_at: float, now: float) -> "_Outcome":
        """Read an answer to a request that was made at `asked_at` with these secrets."""
        summary = f"it answered {answer.status}"
        if answer.status == 429 or answer.status >= 500:
            # a date counts from the server's clock, if it tells the time: ours may be wrong by hours
            server_now = _timestamp(answer.headers.get("Date"), now)
            asked = _seconds(answer.headers.get("Retry-After"), server_now)
            if asked is not None and asked > RETRY_AFTER_LIMIT:
                return cls(f"{summary} and asks to come back in {asked:.0f} s", retry_after=asked)
            return cls(summary, may_pass=True, retry_after=asked)
        if answer.is_redirect:
            return cls(f"{summary}, a redirect, which is not followed with a password")
        if len(answer.body) > ANSWER_LIMIT:
            return cls(f"{summary} with a body without end")
        try:
            fields = json.loads(answer.body)
        except (ValueError, RecursionError):
            fields = {}
        fields = fields if isinstance(fields, dict) else {}
        if answer.status == 200:
            fault = _fault_in(fields)
            return cls(summary, fault=fault) if fault else cls(summary, _token(fields, asked_at))
        code, said = (_words(fields.get(name), secrets) for name in ("error", "error_description"))
        return cls(summary, code=code, said=said)


def _words(text: object, secrets: list[Secret]) -> str:
    """Return a server's words as one short line; nothing if they repeat a secret, however encoded."""
    if not isinstance(text, str) or len(text) > REASON_LIMIT:
        return ""
    if text not in _PLAIN_WORDS and any(secret.is_in(text) for secret in secrets):
        return ""
    return "".join(c if c.isprintable() else " " for c in text)[:200].strip()


def _fault_in(fields: Mapping[str, Any]) -> str:
    """Say why the fields of an answer are not a token, without quoting them."""
    token, expires_in = fields.get("access_token"), fields.get("expires_in")
    if not fields:
        return "it is not a JSON object"
    if not isinstance(token, str) or not token:
        return "it has no access_token"
    if not _is_bearer(token):
        return "its access_token is too long, or has characters that a bearer token cannot have"
    if not isinstance(fields.get("token_type", "Bearer"), str) or (
        fields.get("token_type", "Bearer").lower() != "bearer"
    ):
        return "its token_type is not Bearer"
    if not _is_number(expires_in) or not 0 < expires_in <= _LIFETIME_LIMIT:
        return "its expires_in is missing or absurd"
    return ""


def _token(fields: Mapping[str, Any], asked_at: float) -> Token:
    refresh, lifetime = fields.get("refresh_token"), fields.get("refresh_expires_in")
    # Keycloak sends 0 for a refresh token that does not expire
    limit = asked_at + min(lifetime, _LIFETIME_LIMIT) if _is_number(lifetime) and lifetime > 0 else None
    return Token(
        access_token=fields["access_token"],
        # counted from before the request, so that it never ends later than the server says
        expires_at=asked_at + fields["expires_in"],
        refresh_token=refresh if _is_refresh_token(refresh) else None,
        refresh_expires_at=limit,
        scope=_words(fields.get("scope"), []),
    )


def saved_token(fields: Mapping[str, Any]) -> Token | None:
    """Return a token from saved fields, checked as those of an answer are; None if they are wrong."""
    scope, refresh, ends = (fields.get(name) for name in ("scope", "refresh_token", "refresh_expires_at"))
    if not (_is_bearer(fields.get("access_token")) and _is_time(fields.get("expires_at"))):
        return None
    if not (refresh is None or _is_refresh_token(refresh)) or not (ends is None or _is_time(ends)):
        return None
    if not isinstance(scope, str) or not scope.isprintable():
        return None
    return Token(fields["access_token"], fields["expires_at"], refresh, ends, scope)


def _is_bearer(token: object) -> bool:
    return isinstance(token, str) and len(token) <= _TOKEN_LIMIT and bool(_BEARER.fullmatch(token))


def _is_refresh_token(token: object) -> bool:
    """Tell whether it is one in the characters of RFC 6749, appendix A.17."""
    if not isinstance(token, str) or not 0 < len(token) <= _TOKEN_LIMIT:
        return False
    return token.isascii() and token.isprintable()


def _is_time(value: object) -> bool:
    """Tell whether it is a number of seconds since the epoch, up to the year 5138."""
    return _is_number(value) and 0 <= value <= 1e11


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
