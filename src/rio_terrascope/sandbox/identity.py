"""The accounts, sessions and tokens of a Keycloak realm."""

from __future__ import annotations

import functools
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

CLIENT_ID = "public"

TokenState = Literal["valid", "expired", "revoked", "invalid"]


class GrantError(Exception):
    """A refused grant, in the terms of OAuth.

    Parameters
    ----------
    status : int
        The HTTP status.
    error : str
        The OAuth error code.
    description : str
        The reason, in Keycloak's words.
    """

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.error = error
        self.description = description


@dataclass
class Account:
    """A user account."""

    password: str
    enabled: bool = True
    action_required: bool = False


@dataclass
class RefreshToken:
    """A refresh token that was issued."""

    username: str
    session: str
    expires_at: float
    used: bool = False


class Identity:
    """The realm: issues tokens and checks them.

    Parameters
    ----------
    issuer : str
        The URL of the realm; every token names it.
    accounts : mapping
        Passwords by username.
    token_lifetime, refresh_lifetime : float
        In seconds and fractions of a second.
    rotate : bool
        Whether a refresh token can be used only once.
    """

    def __init__(
        self,
        issuer: str,
        accounts: Mapping[str, str],
        *,
        token_lifetime: float,
        refresh_lifetime: float,
        rotate: bool,
    ) -> None:
        self.issuer = issuer
        self._passwords = dict(accounts)
        self._token_lifetime = token_lifetime
        self._refresh_lifetime = refresh_lifetime
        self._rotate = rotate
        self._key = RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)
        self._access: dict[str, TokenState] = {}
        self._refresh: dict[str, RefreshToken] = {}
        self._sessions: set[str] = set()
        # A token comes with thousands of requests; verify its signature once.
        self._claims = functools.lru_cache(maxsize=1024)(self._verified_claims)
        self.restore_accounts()

    def keys(self) -> dict[str, Any]:
        """Return the public keys as a JSON Web Key Set."""
        return dict(KeySet([self._key]).as_dict(private=False))

    # Grants

    def grant_password(self, username: str, password: str) -> dict[str, Any]:
        """Log in: return the token answer, or raise `GrantError`."""
        account = self._accounts.get(username)
        if account is None or account.password != password:
            raise GrantError(401, "invalid_grant", "Invalid user credentials")
        if not account.enabled:
            raise GrantError(400, "invalid_grant", "Account disabled")
        if account.action_required:
            raise GrantError(400, "invalid_grant", "Account is not fully set up")
        session = str(uuid.uuid4())
        self._sessions.add(session)
        return self._answer(username, session)

    def grant_refresh(self, refresh_token: str) -> dict[str, Any]:
        """Exchange a refresh token: return the token answer, or raise `GrantError`."""
        known = self._refresh.get(refresh_token)
        if known is None:
            raise GrantError(400, "invalid_grant", "Invalid refresh token")
        if time.time() >= known.expires_at:
            raise GrantError(400, "invalid_grant", "Token is not active")
        if known.session not in self._sessions:
            raise GrantError(400, "invalid_grant", "Session not active")
        if known.used:
            raise GrantError(400, "invalid_grant", "Stale token")
        if not self._accounts[known.username].enabled:
            raise GrantError(400, "invalid_grant", "User disabled")
        known.used = self._rotate
        return self._answer(known.username, known.session)

    def refresh_username(self, refresh_token: str) -> str | None:
        """Return the user of a refresh token, whether or not it is still valid."""
        known = self._refresh.get(refresh_token)
        return known.username if known else None

    def _answer(self, username: str, session: str) -> dict[str, Any]:
        now = time.time()
        scope = "profile email"
        jti = str(uuid.uuid4())
        claims = {
            "iss": self.issuer,
            "sub": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.issuer}/{username}")),
            "azp": CLIENT_ID,
            "typ": "Bearer",
            # NumericDate (RFC 7519) allows fractions, and a lifetime of 1.5 s needs them. "iat" is rounded
            # down: for libraries that count whole seconds, it must not lie in the future.
            "exp": now + self._token_lifetime,
            "iat": int(now),
            "jti": jti,
            "sid": session,
            "preferred_username": username,
            "scope": scope,
        }
        access_token = jwt.encode({"alg": "RS256", "kid": self._key.kid}, claims, self._key)
        self._access[jti] = "valid"
        # recognizable, so that tests can search for leaked ones
        refresh_token = f"sandbox-refresh-{secrets.token_urlsafe(48)}"
        self._refresh[refresh_token] = RefreshToken(username, session, now + self._refresh_lifetime)
        return {
            "access_token": access_token,
            "expires_in": _json_number(self._token_lifetime),
            "refresh_expires_in": _json_number(self._refresh_lifetime),
            "refresh_token": refresh_token,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "session_state": session,
            "scope": scope,
        }

    # Checks

    def check(self, access_token: str) -> tuple[TokenState, str | None]:
        """Return the present state of an access token, and its user."""
        claims = self._claims(access_token)
        if claims is None:
            return "invalid", None
        state = self._access.get(claims["jti"], "invalid")
        if state == "valid" and time.time() >= claims["exp"]:
            state = "expired"
        return state, claims["preferred_username"]

    def _verified_claims(self, access_token: str) -> dict[str, Any] | None:
        try:
            claims = jwt.decode(access_token, self._key, algorithms=["RS256"]).claims
        except (JoseError, ValueError):
            return None
        return claims if claims.get("iss") == self.issuer else None

    # Faults

    def end_tokens(self, state: TokenState) -> None:
        """Set the state of all access tokens issued so far. Refresh tokens stay valid."""
        self._access = dict.fromkeys(self._access, state)

    def end_sessions(self) -> None:
        """Log out all users: revoke their access and refresh tokens."""
        self.end_tokens("revoked")
        self._sessions.clear()

    def set_password(self, username: str, password: str) -> None:
        """Change a password, or create an account."""
        self._accounts.setdefault(username, Account(password)).password = password

    def disable(self, username: str) -> None:
        """Disable an account."""
        self._accounts[username].enabled = False

    def require_action(self, username: str) -> None:
        """Refuse an account until its owner has acted, for example verified the e-mail address."""
        self._accounts[username].action_required = True

    def restore_accounts(self) -> None:
        """Set all accounts back to what they were at the start."""
        self._accounts = {username: Account(password) for username, password in self._passwords.items()}


def _json_number(seconds: float) -> float | int:
    """Return an integer if possible, because Keycloak writes 300 and not 300.0."""
    return int(seconds) if seconds == int(seconds) else seconds
