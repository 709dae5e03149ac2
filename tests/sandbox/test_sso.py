"""The token endpoint: both grants, Keycloak's refusals, and the contents of a token."""

from __future__ import annotations

import time

import jwt as pyjwt
import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet

from rio_terrascope.sandbox import Sandbox

from .conftest import grant, login


def refusal(answer: requests.Response) -> tuple[int, str, str]:
    assert answer.headers["Cache-Control"] == "no-store"
    error = answer.json()
    return answer.status_code, error["error"], error["error_description"]


def test_password_grant_answers_as_documented(bare: Sandbox) -> None:
    answer = grant(bare, grant_type="password", username=bare.username, password=bare.password)

    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    token = answer.json()
    assert (token["expires_in"], token["refresh_expires_in"]) == (300, 3600)
    assert isinstance(token["expires_in"], int)
    assert (token["token_type"], token["not-before-policy"]) == ("Bearer", 0)
    assert token["scope"] == "profile email"
    assert token["access_token"].startswith("eyJ")
    assert token["session_state"]
    (request,) = bare.requests("sso")
    assert (request.grant, request.username, request.status) == ("password", "researcher", 200)
    assert request.path == "/auth/realms/terrascope/protocol/openid-connect/token"


def test_a_refresh_token_can_be_used_once(bare: Sandbox) -> None:
    first = login(bare)
    second = grant(bare, grant_type="refresh_token", refresh_token=first["refresh_token"])
    again = grant(bare, grant_type="refresh_token", refresh_token=first["refresh_token"])

    assert second.status_code == 200
    assert second.json()["access_token"] != first["access_token"]
    assert second.json()["session_state"] == first["session_state"]
    assert refusal(again) == (400, "invalid_grant", "Stale token")
    assert [request.username for request in bare.requests("sso")] == ["researcher"] * 3
    third = grant(bare, grant_type="refresh_token", refresh_token=second.json()["refresh_token"])
    assert third.status_code == 200


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (400, "invalid_request", "Missing form parameter: grant_type")),
        ({"grant_type": "magic"}, (400, "unsupported_grant_type", "Unsupported grant_type")),
        (
            {"grant_type": "password", "client_id": "mine"},
            (401, "invalid_client", "Invalid client or Invalid client credentials"),
        ),
        (
            {"grant_type": "password", "username": "x"},
            (400, "invalid_request", "Missing form parameter: password"),
        ),
        ({"grant_type": "refresh_token"}, (400, "invalid_request", "No refresh token")),
        (
            {"grant_type": "refresh_token", "refresh_token": "x"},
            (400, "invalid_grant", "Invalid refresh token"),
        ),
        (
            {"grant_type": "password", "username": "researcher", "password": "wrong"},
            (401, "invalid_grant", "Invalid user credentials"),
        ),
        (
            {"grant_type": "password", "username": "nobody", "password": "wrong"},
            (401, "invalid_grant", "Invalid user credentials"),
        ),
    ],
)
def test_refusals(bare: Sandbox, fields: dict[str, str], expected: tuple[int, str, str]) -> None:
    assert refusal(grant(bare, **fields)) == expected


def test_only_forms_are_accepted(bare: Sandbox) -> None:
    fields = {"grant_type": "password", "client_id": "public"}
    assert requests.post(bare.token_url, json=fields, timeout=10).status_code == 415
    assert requests.get(bare.token_url, timeout=10).status_code == 405


def test_accounts_can_be_changed(bare: Sandbox) -> None:
    def reason(password: str = "other-password") -> str:
        answer = grant(bare, grant_type="password", username="colleague", password=password)
        return str(answer.json().get("error_description", "welcome"))

    assert reason() == "welcome"
    bare.set_password("colleague", "new-password")
    assert (reason(), reason("new-password")) == ("Invalid user credentials", "welcome")
    bare.require_action("colleague")
    assert reason("new-password") == "Account is not fully set up"
    bare.disable("colleague")
    assert reason("new-password") == "Account disabled"
    bare.heal()
    assert reason() == "welcome"


def test_an_unknown_account_cannot_be_disabled(bare: Sandbox) -> None:
    with pytest.raises(ValueError, match="nobody"):
        bare.disable("nobody")


def test_the_published_keys_verify_the_token(bare: Sandbox) -> None:
    discovery_url = f"{bare.sso_origin}/auth/realms/terrascope/.well-known/openid-configuration"
    discovery = requests.get(discovery_url, timeout=10).json()
    assert discovery["token_endpoint"] == bare.token_url
    keys = requests.get(discovery["jwks_uri"], timeout=10).json()
    assert "d" not in keys["keys"][0]
    token = login(bare)["access_token"]

    claims = jwt.decode(token, KeySet.import_key_set(keys), algorithms=["RS256"]).claims
    assert claims["iss"] == discovery["issuer"]
    assert (claims["preferred_username"], claims["azp"], claims["typ"]) == ("researcher", "public", "Bearer")
    assert claims["exp"] - time.time() == pytest.approx(300, abs=5)
    # Check with a second library as well, in case the first is wrong.
    key = pyjwt.PyJWKClient(discovery["jwks_uri"]).get_signing_key_from_jwt(token)
    assert pyjwt.decode(token, key.key, algorithms=["RS256"])["jti"] == claims["jti"]


def test_sessions_can_be_ended(bare: Sandbox) -> None:
    token = login(bare)
    bare.end_sessions()
    answer = grant(bare, grant_type="refresh_token", refresh_token=token["refresh_token"])
    assert refusal(answer) == (400, "invalid_grant", "Session not active")


def test_token_answers_can_be_replaced(bare: Sandbox) -> None:
    bare.token_answer({"expires_in": -1, "extra": "x"}, times=2)
    assert login(bare)["expires_in"] == -1
    merged = login(bare)
    assert (merged["extra"], merged["token_type"]) == ("x", "Bearer")
    bare.token_answer(b"\xff garbage")
    answer = grant(bare, grant_type="password", username=bare.username, password=bare.password)
    assert (answer.status_code, answer.content) == (200, b"\xff garbage")
    bare.token_answer({"expires_in": float("nan")})
    answer = grant(bare, grant_type="password", username=bare.username, password=bare.password)
    assert '"expires_in": NaN' in answer.text
    assert login(bare)["expires_in"] == 300


def test_tokens_expire_to_the_fraction_of_a_second(bare: Sandbox) -> None:
    with Sandbox(tiles=[bare.file()], token_lifetime=0.6, refresh_lifetime=1.2, rotate=False) as short_lived:
        token = login(short_lived)
        assert (token["expires_in"], token["refresh_expires_in"]) == (0.6, 1.2)

        def status() -> int:
            headers = {"Authorization": f"Bearer {token['access_token']}"}
            return requests.get(short_lived.url(), headers=headers, timeout=10).status_code

        def refresh() -> requests.Response:
            return grant(short_lived, grant_type="refresh_token", refresh_token=token["refresh_token"])

        assert status() == 200
        deadline = time.monotonic() + 5
        while status() == 200:
            assert time.monotonic() < deadline
        assert short_lived.requests("data")[-1].authorization == "expired"
        # Without rotation, the refresh token can be used until it expires.
        assert refresh().status_code == 200
        assert refresh().status_code == 200
        while (answer := refresh()).status_code == 200:
            assert time.monotonic() < deadline
        assert refusal(answer) == (400, "invalid_grant", "Token is not active")


def test_the_login_page_is_html(bare: Sandbox) -> None:
    page = requests.get(f"{bare.sso_origin}/auth/realms/terrascope/login", timeout=10)
    assert page.headers["Content-Type"].startswith("text/html")
    assert requests.get(f"{bare.sso_origin}/elsewhere", timeout=10).status_code == 404
