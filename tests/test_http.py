"""Sessions from http.py send secrets nowhere else: no redirects, no ~/.netrc, no proxy on this machine."""

import pickle

import pytest
import requests

from rio_terrascope import TokenSource
from rio_terrascope.http import Answer, new_session, secure

TOKEN = "not-a-real-token"


@pytest.fixture
def netrc(tmp_path, monkeypatch):
    """A ~/.netrc with a password for every host."""
    file = tmp_path / "netrc"
    file.write_text("default login somebody password secret\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


def test_redirects_are_not_followed(sandbox):
    url = sandbox.redirect_url()
    token = TokenSource().get().access_token
    with new_session(url, None, access_token=token) as session:
        answer = session.get(url, timeout=10)
    assert answer.status_code == 302
    assert sandbox.requests("other") == []


@pytest.mark.parametrize("token", [None, TOKEN])
def test_only_the_token_is_sent(netrc, sandbox, token, monkeypatch):
    monkeypatch.setattr("rio_terrascope.http.stays_here", lambda url: False)  # as for any other host
    assert requests.get(sandbox.url(), timeout=10).request.headers["Authorization"].startswith("Basic ")
    with new_session(sandbox.url(), None, access_token=token) as session:
        sent = session.get(sandbox.url(), timeout=10).request.headers
    assert sent.get("Authorization") == (token and f"Bearer {token}")


def test_a_session_of_another_library_sends_no_password(netrc, sandbox, monkeypatch):
    monkeypatch.setattr("rio_terrascope.http.stays_here", lambda url: False)
    with requests.Session() as session:
        secure(session, sandbox.url(), None)
        assert "Authorization" not in session.get(sandbox.url(), timeout=10).request.headers


def test_this_machine_needs_no_proxy(sandbox, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with new_session(sandbox.url(), None) as session:
        assert session.get(sandbox.url(), timeout=10).status_code == 401


def test_the_token_is_not_shown():
    with new_session("https://services.example", None, access_token=TOKEN) as session:
        assert TOKEN not in repr(session) + repr(session.auth)
        assert TOKEN not in repr(vars(session))


def test_an_answer_is_neither_shown_nor_pickled():
    answer = Answer(f"https://services.example/?token={TOKEN}", 200, {"X": TOKEN}, TOKEN.encode())
    assert TOKEN not in repr(answer)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(answer)
