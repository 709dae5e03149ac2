"""No secret in any message, repr, log record, traceback, process argument or child's environment."""

import logging
import os
import subprocess
import sys
import traceback

import pytest
import rasterio

from helpers import grants
from rio_terrascope import (
    InvalidCredentialsError,
    TerrascopeError,
    TerrascopeSession,
    TokenSource,
    login,
    logout,
    terrascope_env,
)

WRONG = "wr0ng-s3cret"


@pytest.fixture
def everything_logged(caplog):
    """Log everything at DEBUG, including GDAL's messages."""
    with caplog.at_level(logging.DEBUG), rasterio.Env(CPL_DEBUG=True):
        yield caplog


def shown(error):
    """Return what tools may show of an exception: its text, and local variables of the package."""
    parts = []
    while error is not None:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
        parts += [repr(f.locals) for f in frames if f"rio_terrascope{os.sep}" in f.filename]
        parts += [str(error), repr(error), repr(error.args), repr(vars(error))]
        assert not hasattr(error, "request"), "an exception that holds the request holds the password"
        error = error.__cause__ or error.__context__
    return "\n".join(parts)


@pytest.mark.parametrize("scope", ["origins", "env"])
def test_a_wrong_password_costs_one_request_and_appears_nowhere(sandbox, everything_logged, scope):
    env = terrascope_env("researcher", WRONG, scope=scope)
    with pytest.raises(InvalidCredentialsError) as raised:
        env.__enter__()
    assert grants(sandbox.requests(), "password") == 1
    assert len(sandbox.requests("sso")) == 1
    assert WRONG not in shown(raised.value)
    assert WRONG not in everything_logged.text
    assert WRONG not in repr(env)


@pytest.mark.parametrize("scope", ["origins", "env"])
def test_no_secret_in_logs_and_reprs_of_a_whole_session(sandbox, everything_logged, scope, capfd):
    with terrascope_env(scope=scope) as env:
        first = env.token
        rasterio.open(sandbox.url()).close()
        second = env.refresh()
        sandbox.revoke_tokens()
        with env.open(sandbox.url()) as src:
            src.read(1, window=((20000, 20100), (9000, 9100)))
        third = env.token
        seen = [repr(env), repr(env.tokens), repr(first), str(second), repr(vars(env)), repr(env.options)]
    with rasterio.Env(session=TerrascopeSession()) as plain:
        rasterio.open(sandbox.url()).close()
        seen.append(repr(plain.session))
    seen += [everything_logged.text, *capfd.readouterr()]
    text = "\n".join(seen)
    assert "VSICURL" in text or "vsicurl" in text  # GDAL's messages are logged too
    for token in (first, second, third):
        assert token.access_token not in text
        assert token.refresh_token not in text
    assert sandbox.password not in text


def test_a_wrong_password_for_login(sandbox, everything_logged):
    with pytest.raises(InvalidCredentialsError) as raised:
        login("researcher", WRONG)
    assert WRONG not in shown(raised.value)


@pytest.mark.parametrize(
    "trouble",
    [
        lambda sandbox: sandbox.fail(503, times=None, server="sso", headers={"Retry-After": "0"}),
        lambda sandbox: sandbox.reset(times=None, server="sso"),
        lambda sandbox: sandbox.fail(302, server="sso", headers={"Location": "http://127.0.0.1:9/"}),
        lambda sandbox: sandbox.token_answer("<html>"),
        lambda sandbox: sandbox.fail(400, server="sso"),
    ],
)
def test_no_secret_in_the_errors_of_a_login_in_trouble(sandbox, everything_logged, trouble):
    trouble(sandbox)
    tokens = TokenSource(sandbox.username, sandbox.password)
    with pytest.raises(TerrascopeError) as raised:
        tokens.get()
    assert sandbox.password not in shown(raised.value)
    assert sandbox.password not in everything_logged.text


def test_a_child_process_inherits_nothing(sandbox, monkeypatch):
    monkeypatch.delenv("TERRASCOPE_PASSWORD")
    login(sandbox.username, sandbox.password)
    try:
        child = subprocess.run(
            [sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True
        )
        environ, arguments = child.stdout.decode(), " ".join(sys.argv)
        with terrascope_env(sandbox.username, sandbox.password) as env:
            for secret in (sandbox.password, env.token.access_token, env.token.refresh_token):
                assert secret not in environ
                assert secret not in arguments
                assert secret not in repr(os.environ)
    finally:
        logout()
