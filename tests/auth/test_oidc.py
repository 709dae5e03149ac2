"""The token endpoint over real HTTP: the requests, the accepted answers, and the error for each refusal."""

import json
import logging
import time
from urllib.parse import parse_qs

import pytest

from rio_terrascope import InvalidCredentialsError, Settings, Token, TokenEndpointError
from rio_terrascope.auth.oidc import RefreshRefusedError, TokenEndpoint


@pytest.fixture
def waits():
    return []


@pytest.fixture
def endpoint(sandbox, waits):
    return TokenEndpoint(Settings.from_environ(), sleep=waits.append)


def password_grant(endpoint, sandbox):
    return endpoint.password_grant(sandbox.username, sandbox.password)


def test_the_password_grant(endpoint, sandbox):
    before = time.time()
    token = password_grant(endpoint, sandbox)
    assert token.access_token.count(".") == 2  # a JWT
    assert before + 299 < token.expires_at < time.time() + 300
    assert before + 3599 < token.refresh_expires_at < time.time() + 3600
    assert token.refresh_token
    assert token.scope == "profile email"


def test_the_refresh_grant(endpoint, sandbox):
    first = password_grant(endpoint, sandbox)
    second = endpoint.refresh_grant(first.refresh_token)
    assert second.access_token != first.access_token
    assert second.refresh_token != first.refresh_token
    with pytest.raises(RefreshRefusedError, match="the login has ended"):
        endpoint.refresh_grant(first.refresh_token)


def test_the_requests_are_as_terrascope_documents_them(monkeypatch, waits):
    import responses

    url = "https://sso.example/token"
    answer = {"access_token": "a", "expires_in": 300}
    with responses.RequestsMock() as mock:
        mock.post(url, json=answer)
        mock.post(url, json=answer)
        endpoint = TokenEndpoint(Settings(token_url=url), sleep=waits.append)
        endpoint.password_grant("ann", "p&ss wörd")
        endpoint.refresh_grant("r")
        login, refresh = (call.request for call in mock.calls)
    assert parse_qs(login.body) == {
        "grant_type": ["password"],
        "client_id": ["public"],
        "username": ["ann"],
        "password": ["p&ss wörd"],
    }
    assert parse_qs(refresh.body) == {
        "grant_type": ["refresh_token"],
        "client_id": ["public"],
        "refresh_token": ["r"],
    }
    for request in (login, refresh):
        assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
        assert "Authorization" not in request.headers


def test_netrc_adds_nothing_to_the_request(endpoint, sandbox, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ann password from-netrc\n")
    monkeypatch.setenv("NETRC", str(netrc))
    password_grant(endpoint, sandbox)
    assert {request.authorization for request in sandbox.requests("sso")} == {"none"}


class TestRefused:
    """A refusal is final: it is not retried, and the error is in plain words."""

    @pytest.mark.parametrize(
        ("prepare", "said"),
        [
            (lambda sandbox: None, r"the username or password is wrong \(Invalid user credentials\)"),
            (lambda sandbox: sandbox.disable("researcher"), "the account is disabled"),
            (lambda sandbox: sandbox.require_action("researcher"), "log in once at https://terrascope.be"),
        ],
    )
    def test_credentials(self, endpoint, sandbox, waits, prepare, said):
        prepare(sandbox)
        password = sandbox.password if said[0:12] == "the account " or "log in" in said else "wrong"
        with pytest.raises(InvalidCredentialsError, match=said) as raised:
            endpoint.password_grant("researcher", password)
        assert "user researcher was refused" in str(raised.value)
        assert "127.0.0.1" in str(raised.value)
        assert "Next:" in str(raised.value)
        assert len(sandbox.requests("sso")) == 1
        assert waits == []

    def test_client_id(self, sandbox, waits):
        endpoint = TokenEndpoint(Settings.from_environ(client_id="other"), sleep=waits.append)
        with pytest.raises(TokenEndpointError, match="TERRASCOPE_CLIENT_ID"):
            password_grant(endpoint, sandbox)
        assert len(sandbox.requests("sso")) == 1

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 418])
    def test_any_other_4xx(self, endpoint, sandbox, waits, status):
        sandbox.fail(status, server="sso", body="<html>no</html>", content_type="text/html")
        with pytest.raises(TokenEndpointError, match=f"it answered {status}"):
            password_grant(endpoint, sandbox)
        assert len(sandbox.requests("sso")) == 1
        assert waits == []

    def test_the_servers_words_are_dropped_if_they_repeat_the_password(self, endpoint, sandbox):
        said = f"you sent {sandbox.password}"
        sandbox.fail(
            400,
            server="sso",
            body=json.dumps({"error": "invalid_grant", "error_description": said}),
            content_type="application/json",
        )
        with pytest.raises(InvalidCredentialsError) as raised:
            password_grant(endpoint, sandbox)
        assert "you sent" not in str(raised.value)

    def test_the_servers_words_are_made_printable(self, endpoint, sandbox):
        said = f"come back\n\x1b[31mlater {'x' * 500}"
        sandbox.fail(
            400,
            server="sso",
            body=json.dumps({"error": "invalid_grant", "error_description": said}),
            content_type="application/json",
        )
        with pytest.raises(InvalidCredentialsError, match=r"come back  \[31mlater xxx") as raised:
            password_grant(endpoint, sandbox)
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 600

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_is_not_followed(self, endpoint, sandbox, status):
        sandbox.fail(status, server="sso", headers={"Location": sandbox.other_url()})
        with pytest.raises(TokenEndpointError, match="redirect"):
            password_grant(endpoint, sandbox)
        assert sandbox.requests("other") == []


class TestTrouble:
    """Temporary trouble is retried: four attempts, with growing pauses."""

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_statuses(self, endpoint, sandbox, waits, status):
        sandbox.fail(status, times=3, server="sso")
        assert password_grant(endpoint, sandbox).access_token
        assert len(sandbox.requests("sso")) == 4
        for wait, longest in zip(waits, (1, 2, 4), strict=True):
            assert longest / 2 <= wait <= longest

    def test_it_gives_up(self, endpoint, sandbox, waits):
        sandbox.fail(503, times=None, server="sso")
        with pytest.raises(TokenEndpointError, match="it answered 503, 4 times"):
            password_grant(endpoint, sandbox)
        assert len(sandbox.requests("sso")) == 4
        assert len(waits) == 3

    def test_resets(self, endpoint, sandbox, waits):
        sandbox.reset(times=2, server="sso")
        sandbox.reset(times=1, server="sso", after=20)
        assert password_grant(endpoint, sandbox).access_token
        assert len(waits) == 3

    def test_connection_refused(self, waits):
        settings = Settings(token_url="http://127.0.0.1:9/token")
        with pytest.raises(TokenEndpointError, match="Connection refused") as raised:
            TokenEndpoint(settings, sleep=waits.append).password_grant("ann", "s3cret")
        assert raised.value.__cause__ is None
        assert raised.value.__context__ is None  # requests' own exception holds the password
        assert len(waits) == 3

    def test_no_such_host(self, waits):
        settings = Settings(token_url="https://sso.terrascope.invalid/token")
        with pytest.raises(TokenEndpointError, match=r"sso\.terrascope\.invalid"):
            TokenEndpoint(settings, sleep=waits.append).password_grant("ann", "s3cret", attempts=1)

    def test_a_hang(self, sandbox, waits):
        endpoint = TokenEndpoint(Settings.from_environ(timeout=3.0), sleep=waits.append)
        sandbox.hang(times=1, server="sso")
        assert password_grant(endpoint, sandbox).access_token
        assert len(waits) == 1

    def test_retry_after(self, endpoint, sandbox, waits):
        sandbox.fail(429, server="sso", headers={"Retry-After": "7"})
        password_grant(endpoint, sandbox)
        assert waits == [7.0]

    def test_retry_after_as_a_date(self, sandbox, waits):
        from email.utils import formatdate

        endpoint = TokenEndpoint(Settings.from_environ(), sleep=waits.append)
        sandbox.fail(503, server="sso", headers={"Retry-After": formatdate(time.time() + 20, usegmt=True)})
        password_grant(endpoint, sandbox)
        assert 15 < waits[0] <= 22  # by the server's clock, in whole seconds

    def test_retry_after_that_is_nonsense(self, endpoint, sandbox, waits):
        sandbox.fail(503, server="sso", headers={"Retry-After": "soon"})
        password_grant(endpoint, sandbox)
        assert 0.5 <= waits[0] <= 1

    def test_a_long_retry_after_is_reported_instead(self, endpoint, sandbox, waits):
        sandbox.fail(429, times=None, server="sso", headers={"Retry-After": "3600"})
        with pytest.raises(TokenEndpointError, match="asks to come back in 3600 s"):
            password_grant(endpoint, sandbox)
        assert waits == []

    def test_retries_are_logged(self, endpoint, sandbox, caplog):
        sandbox.fail(503, server="sso")
        with caplog.at_level(logging.INFO):
            password_grant(endpoint, sandbox)
        assert "it answered 503; trying again" in caplog.text


class TestAnswersThatAreNoToken:
    """No part of them appears in a header or in the message."""

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "<html>welcome</html>",
            '{"access_token": "abc"',
            "[]",
            "null",
            '"abc"',
            "[" * 100_000,
            b"\xff\xfe\x00",
        ],
    )
    def test_bodies(self, endpoint, sandbox, body):
        sandbox.token_answer(body)
        with pytest.raises(TokenEndpointError, match="not a JSON object"):
            password_grant(endpoint, sandbox)
        assert len(sandbox.requests("sso")) == 1

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"access_token": None}, "no access_token"),
            ({"access_token": ""}, "no access_token"),
            ({"access_token": 7}, "no access_token"),
            ({"access_token": "evil token"}, "characters"),
            ({"access_token": "evil\r\nX-Evil: 1"}, "characters"),
            ({"access_token": "evil\n"}, "characters"),
            ({"access_token": "evil\x00"}, "characters"),
            ({"access_token": "évil"}, "characters"),
            ({"access_token": "evil,"}, "characters"),
            ({"access_token": "e" * 20_000}, "too long"),
            ({"expires_in": None}, "expires_in"),
            ({"expires_in": 0}, "expires_in"),
            ({"expires_in": -300}, "expires_in"),
            ({"expires_in": "300"}, "expires_in"),
            ({"expires_in": True}, "expires_in"),
            ({"expires_in": 1e12}, "expires_in"),
            ({"expires_in": float("nan")}, "expires_in"),
            ({"expires_in": float("inf")}, "expires_in"),
            ({"expires_in": 10**400}, "expires_in"),
            ({"token_type": "mac"}, "token_type"),
            ({"token_type": None}, "token_type"),
        ],
    )
    def test_fields(self, endpoint, sandbox, fields, said):
        sandbox.token_answer(fields)
        with pytest.raises(TokenEndpointError, match=said) as raised:
            password_grant(endpoint, sandbox)
        assert "evil" not in str(raised.value)

    def test_a_huge_body(self, endpoint, sandbox):
        sandbox.token_answer(b'{"access_token": "' + b"a" * 1_000_000 + b'"}')
        with pytest.raises(TokenEndpointError, match="without end"):
            password_grant(endpoint, sandbox)

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"refresh_token": None}, (None, True)),
            ({"refresh_token": 5}, (None, True)),
            ({"refresh_expires_in": 0}, (str, False)),  # Keycloak: does not expire
            ({"refresh_expires_in": "soon"}, (str, False)),
            ({"scope": None, "not-before-policy": "x", "extra": [1]}, (str, True)),
        ],
    )
    def test_optional_fields_of_a_token(self, endpoint, sandbox, fields, expected):
        sandbox.token_answer(fields)
        token = password_grant(endpoint, sandbox)
        kind, expires = expected
        assert token.refresh_token is None if kind is None else isinstance(token.refresh_token, str)
        assert (token.refresh_expires_at is not None) is expires


def test_a_token_shows_no_secret():
    token = Token("secret-a", 1.0, "secret-r", 2.0, "email")
    assert "secret" not in repr(token)
    assert "secret" not in str(token)
    assert token == Token("secret-a", 1.0, "secret-r", 2.0, "email")
