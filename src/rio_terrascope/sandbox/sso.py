"""The login server: token endpoint, discovery document, keys and login page."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.responses import HTMLResponse, JSONResponse, Response

from .app import Credentials, IncomingRequest, Site
from .identity import CLIENT_ID, GrantError, Identity

REALM = "/auth/realms/terrascope"
TOKEN_PATH = f"{REALM}/protocol/openid-connect/token"
LOGIN_PATH = f"{REALM}/login"

ENCODINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper": str.upper,
    "percent": lambda secret: quote(secret, safe=""),
    "twice percent": lambda secret: quote(quote(secret, safe=""), safe=""),
    "html": lambda secret: "".join(f"&#{ord(c)};" for c in secret),
    "json": lambda secret: "".join(f"\\u{ord(c):04x}" for c in secret),
    "base64": lambda secret: base64.b64encode(f"me:{secret}".encode()).decode(),
    "hex": lambda secret: secret.encode().hex(),
}

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_LOGIN_PAGE = """<!DOCTYPE html>
<html><head><title>Sign in to Terrascope (sandbox)</title></head>
<body><h1>Sign in to your account</h1><form method="post"><input name="username"><input name="password"
type="password"><input type="submit" value="Sign In"></form></body></html>
"""


class SsoSite(Site):
    """The login server.

    Parameters
    ----------
    origin : str
        The origin of this server.
    identity : Identity
        The realm that issues the tokens.
    """

    def __init__(self, origin: str, identity: Identity) -> None:
        self._origin = origin
        self._identity = identity
        self._replacement: tuple[Mapping[str, Any] | bytes, int] | None = None
        self._echo: str | None = None

    def replace_answers(
        self, *, fields: Mapping[str, Any] | None = None, raw: str | None = None, times: int = 1
    ) -> None:
        """Replace the next successful answers: merge `fields` into them, or send `raw`, a body in base64."""
        body = fields if fields is not None else base64.b64decode(raw or "")
        self._replacement = (body, times)

    def echo(self, encoding: str) -> None:
        """Refuse all grants, and repeat the secret in the description, in one of `ENCODINGS`."""
        self._echo = encoding

    def heal(self) -> None:
        """Stop replacing answers and repeating secrets."""
        self._replacement = self._echo = None

    def inspect(self, incoming: IncomingRequest) -> Credentials:
        """Return the grant that is requested, and the user."""
        form = _form(incoming)
        username = form.get("username", [None])[0]
        if refresh_token := form.get("refresh_token", [""])[0]:
            username = self._identity.refresh_username(refresh_token)
        return Credentials(
            authorization=super().inspect(incoming).authorization,
            grant=form.get("grant_type", [None])[0],
            username=username,
        )

    def answer(self, incoming: IncomingRequest, credentials: Credentials) -> Response:
        """Answer one request."""
        if incoming.path == TOKEN_PATH:
            if incoming.method != "POST":
                return Response(status_code=405, headers={"Allow": "POST"})
            return self._token(incoming)
        if incoming.method not in ("GET", "HEAD"):
            return Response(status_code=405, headers={"Allow": "GET, HEAD"})
        if incoming.path == f"{REALM}/.well-known/openid-configuration":
            return JSONResponse(self._discovery())
        if incoming.path == f"{REALM}/protocol/openid-connect/certs":
            return JSONResponse(self._identity.keys())
        if incoming.path == LOGIN_PATH:
            return HTMLResponse(_LOGIN_PAGE, headers=_NO_STORE)
        return JSONResponse({"error": "HTTP 404 Not Found"}, status_code=404)

    def _token(self, incoming: IncomingRequest) -> Response:
        if not _is_form(incoming):
            return JSONResponse({"error": "HTTP 415 Unsupported Media Type"}, status_code=415)
        try:
            answer = self._grant(_form(incoming))
        except GrantError as refused:
            return JSONResponse(
                {"error": refused.error, "error_description": refused.description},
                status_code=refused.status,
                headers=_NO_STORE,
            )
        # Not a JSONResponse, which refuses NaN and Infinity: a replaced field may hold them.
        return Response(self._replaced(answer), media_type="application/json", headers=_NO_STORE)

    def _grant(self, form: Mapping[str, list[str]]) -> dict[str, Any]:
        """Check the form in the order that Keycloak does: grant type, client, fields of the grant."""
        if any(len(values) > 1 for values in form.values()):
            raise GrantError(400, "invalid_request", "duplicated parameter")
        fields = {name: values[0] for name, values in form.items()}
        if self._echo is not None:
            secret = fields.get("password") or fields.get("refresh_token") or ""
            raise GrantError(400, "invalid_grant", f"you sent {ENCODINGS[self._echo](secret)}, really")
        if "grant_type" not in fields:
            raise GrantError(400, "invalid_request", "Missing form parameter: grant_type")
        if fields["grant_type"] not in ("password", "refresh_token"):
            raise GrantError(400, "unsupported_grant_type", "Unsupported grant_type")
        if fields.get("client_id") != CLIENT_ID:
            raise GrantError(401, "invalid_client", "Invalid client or Invalid client credentials")
        if fields["grant_type"] == "refresh_token":
            if "refresh_token" not in fields:
                raise GrantError(400, "invalid_request", "No refresh token")
            return self._identity.grant_refresh(fields["refresh_token"])
        for name in ("username", "password"):
            if name not in fields:
                raise GrantError(400, "invalid_request", f"Missing form parameter: {name}")
        return self._identity.grant_password(fields["username"], fields["password"])

    def _replaced(self, answer: dict[str, Any]) -> bytes:
        if self._replacement is None:
            return json.dumps(answer).encode()
        body, times = self._replacement
        self._replacement = (body, times - 1) if times > 1 else None
        return body if isinstance(body, bytes) else json.dumps({**answer, **body}).encode()

    def _discovery(self) -> dict[str, Any]:
        connect = f"{self._identity.issuer}/protocol/openid-connect"
        return {
            "issuer": self._identity.issuer,
            "authorization_endpoint": self._origin + LOGIN_PATH,
            "token_endpoint": f"{connect}/token",
            "jwks_uri": f"{connect}/certs",
            "grant_types_supported": ["password", "refresh_token"],
            "response_types_supported": ["none"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "scopes_supported": ["profile", "email"],
        }


def _is_form(incoming: IncomingRequest) -> bool:
    media_type = incoming.headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() == "application/x-www-form-urlencoded"


def _form(incoming: IncomingRequest) -> dict[str, list[str]]:
    if incoming.path != TOKEN_PATH or not _is_form(incoming):
        return {}
    try:
        return parse_qs(incoming.body.decode(), keep_blank_values=True)
    except UnicodeDecodeError:
        return {}
