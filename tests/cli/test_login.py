"""login, status, logout, token: one login for all commands and for Python, safe if several run at once."""

import json
import os
import pty
import stat
import subprocess
import sys
import time
from pathlib import Path

import requests

from helpers import read_terminal

PASSWORD_STDIN = ("login", "--username", "researcher", "--password-stdin")


def files_of(tsread):
    return [path for path in Path(tsread.environ["XDG_CONFIG_HOME"]).rglob("*") if path.is_file()]


def grants(sandbox):
    return [(r.grant, r.status) for r in sandbox.requests("sso") if r.grant]


def test_a_login_is_saved_for_other_commands_without_the_password(stranger, sandbox):
    done = stranger(*PASSWORD_STDIN, input=sandbox.password + "\n")
    assert "Logged in as researcher" in done.stderr
    assert done.stdout == ""
    saved = files_of(stranger)
    assert saved
    for path in saved:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert sandbox.password not in path.read_text()
    info = stranger.json("info", sandbox.url())
    assert info["width"] == 36000
    assert {grant for grant, _ in grants(sandbox)} <= {"password", "refresh_token"}
    assert [grant for grant, _ in grants(sandbox)].count("password") == 1


def test_a_saved_login_serves_python_too(stranger, sandbox):
    stranger(*PASSWORD_STDIN, input=sandbox.password)
    code = "import rio_terrascope, sys\nwith rio_terrascope.terrascope_env() as env: env.open(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, sandbox.url()], env=stranger.environ, check=True, timeout=60)


def test_status_says_who_until_when_and_from_where(stranger, tsread, sandbox):
    line = stranger.fails("status")
    assert "Looked at:" in line
    assert line.count("tsread login") == 1
    stranger(*PASSWORD_STDIN, input=sandbox.password)
    status = stranger.json("status")
    assert (status["username"], status["saved"]) == ("researcher", True)
    assert status["ends_at"] > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert "logins.json" in stranger("status").stdout
    # the environment comes before a saved login
    assert "TERRASCOPE_USERNAME" in tsread.json("status")["source"]
    # and netrc after a saved login
    Path(stranger.environ["HOME"], ".netrc").write_text("machine 127.0.0.1 login other password p\n")
    assert stranger.json("status")["username"] == "researcher"
    stranger("logout")
    assert stranger.json("status")["username"] == "other"


def test_logout_forgets(stranger, sandbox):
    stranger(*PASSWORD_STDIN, input=sandbox.password)
    assert "Removed the login of researcher" in stranger("logout").stderr
    assert all("refresh" not in path.read_text() for path in files_of(stranger))
    assert "No login is saved" in stranger("logout").stderr
    stranger.fails("token")


def test_a_wrong_password_is_sent_once_and_shown_never(stranger, sandbox):
    line = stranger.fails(*PASSWORD_STDIN, input="not-the-passw0rd\n")
    assert "password is wrong" in line
    assert "not-the-passw0rd" not in line
    assert grants(sandbox) == [("password", 401)]
    assert not any("passw0rd" in path.read_text() for path in files_of(stranger))


def test_the_password_is_no_argument_and_needs_a_terminal(stranger):
    assert "--password-stdin" in stranger.fails("login", code=2)
    assert "--username" in stranger.fails("login", "--password-stdin", code=2, input="x")
    assert "no such option" in stranger.fails("login", "--password", "x", code=2).lower()


def test_at_a_terminal_it_asks(stranger, sandbox):
    ours, theirs = pty.openpty()
    process = stranger.popen("token", stdin=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    for prompt, answer in ((b"Username:", "researcher"), (b"Password:", sandbox.password)):
        shown += read_terminal(ours, until=prompt)
        os.write(ours, answer.encode() + b"\n")
    token = process.communicate(timeout=30)[0].strip()
    assert process.returncode == 0
    assert sandbox.password.encode() not in shown
    assert requests.head(sandbox.url(), headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_token_prints_the_token_alone_or_as_a_header(tsread, sandbox):
    token = tsread("token").stdout
    assert token.count("\n") == 1
    answer = requests.head(sandbox.url(), headers={"Authorization": f"Bearer {token.strip()}"})
    assert answer.status_code == 200
    name, _, value = tsread("token", "--header").stdout.strip().partition(": ")
    assert requests.head(sandbox.url(), headers={name: value}).status_code == 200


def test_commands_at_once_do_not_take_the_refresh_token_from_each_other(stranger, sandbox):
    stranger(*PASSWORD_STDIN, input=sandbox.password)
    sandbox.expire_tokens()
    sandbox.clear()
    # the saved access token has expired for all of them, so each wants a new one
    file = next(path for path in files_of(stranger) if path.name == "logins.json")
    logins = {key: json.loads(text) for key, text in json.loads(file.read_text()).items()}
    for login in logins.values():
        login["token"]["expires_at"] = 0
    file.write_text(json.dumps({key: json.dumps(login) for key, login in logins.items()}))
    processes = [stranger.popen("token") for _ in range(6)]
    tokens = {process.communicate(timeout=60)[0] for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert "" not in tokens
    # each refresh token was used once: none was refused
    assert {status for _, status in grants(sandbox)} == {200}
    assert {grant for grant, _ in grants(sandbox)} == {"refresh_token"}


def test_a_long_command_and_short_ones_share_the_login(stranger, fleeting):
    stranger.environ |= {"TERRASCOPE_TOKEN_URL": fleeting.token_url, "TERRASCOPE_ORIGINS": fleeting.origin}
    stranger(*PASSWORD_STDIN, input=fleeting.password)
    with stranger.popen("exec", "--", "cat", stdin=subprocess.PIPE) as long:
        stranger("token")
        refreshed = len(grants(fleeting))
        fleeting.wait_for(lambda seen: sum(r.grant is not None for r in seen) > refreshed, server="sso")
        stranger("token")
        assert long.poll() is None
        long.communicate("", timeout=30)
    assert long.returncode == 0
    stranger("token")
    assert {status for _, status in grants(fleeting)} == {200}


def test_a_login_that_the_service_has_ended(stranger, sandbox):
    stranger(*PASSWORD_STDIN, input=sandbox.password)
    sandbox.end_sessions()
    code = "from rio_terrascope.auth.store import *; s = LoginStore(Settings.from_environ())\n"
    code += "from dataclasses import replace\n"
    code += "l = s.load(); s.save(replace(l, token=replace(l.token, expires_at=0.0)))"
    subprocess.run([sys.executable, "-c", code], env=stranger.environ, check=True, timeout=60)
    line = stranger.fails("token")
    assert "has ended (Session not active)" in line
    assert "tsread login" in line


KEYRING = """
import json, os
from keyring.backend import KeyringBackend
class Keyring(KeyringBackend):
    priority = 5
    name = "a test's keyring"
    path = os.environ["TEST_KEYRING"]
    def all(self):
        return json.load(open(self.path)) if os.path.exists(self.path) else {}
    def get_password(self, service, username):
        return self.all().get(f"{service} {username}")
    def set_password(self, service, username, password):
        json.dump(self.all() | {f"{service} {username}": password}, open(self.path, "w"))
    def delete_password(self, service, username):
        kept = self.all(); kept.pop(f"{service} {username}"); json.dump(kept, open(self.path, "w"))
"""


def test_the_keyring_keeps_the_password_so_that_the_login_lasts(stranger, sandbox, tmp_path):
    import pytest

    pytest.importorskip("keyring")
    (tmp_path / "test_keyring_backend.py").write_text(KEYRING)
    keyring = tmp_path / "keyring.json"
    stranger.environ |= {
        "PYTHONPATH": str(tmp_path),
        "PYTHON_KEYRING_BACKEND": "test_keyring_backend.Keyring",
        "TEST_KEYRING": str(keyring),
    }
    assert "a test's keyring" in stranger(*PASSWORD_STDIN, input=sandbox.password).stderr
    assert not any(path.name == "logins.json" for path in files_of(stranger))
    assert sandbox.password in keyring.read_text()
    assert stranger.json("status")["ends_at"] is None
    sandbox.end_sessions()
    kept = json.loads(keyring.read_text())
    for key, text in kept.items():
        login = json.loads(text)
        login["token"]["expires_at"] = 0
        kept[key] = json.dumps(login)
    keyring.write_text(json.dumps(kept))
    stranger("token")  # by the password, since the refresh token is refused
    stranger("logout")
    assert json.loads(keyring.read_text()) == {}
