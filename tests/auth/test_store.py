"""The saved login: private, safe to share between processes, and clear in its errors."""

import json
import stat

import pytest

from rio_terrascope import Settings, SettingsError, Token, TokenEndpointError, TokenSource
from rio_terrascope.auth.credentials import find_credentials
from rio_terrascope.auth.oidc import RefreshRefusedError
from rio_terrascope.auth.store import LoginStore, SavedEndpoint, SavedLogin

NOW = 1_000_000.0


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"TERRASCOPE_{name}", raising=False)
    return tmp_path


class Endpoint:
    """Answers with numbered tokens. Each refresh token can be used once."""

    def __init__(self):
        self.used = []
        self.trouble = None

    def refresh_grant(self, refresh_token, *, attempts):
        refresh_token = refresh_token.reveal()
        if self.trouble:
            raise self.trouble
        if refresh_token in self.used:
            raise RefreshRefusedError("no login at x", next_step="log in again", reason="Stale token")
        self.used.append(refresh_token)
        return token(len(self.used) + 1)

    def password_grant(self, username, password, *, attempts):
        return token(100)


def token(number, expires_at=NOW + 300):
    return Token(f"access{number}", expires_at, f"refresh{number}", NOW + 3600)


def save(login, settings=None):
    store = LoginStore(settings or Settings(), clock=lambda: NOW)
    with store.locked():
        return store.save(login)


def endpoint_with(server, username="ann"):
    endpoint = SavedEndpoint(Settings(), username, clock=lambda: NOW)
    endpoint._endpoint = server
    return endpoint


def test_a_file_for_the_user_alone_without_the_password(folder):
    kept = save(SavedLogin("ann", token(1), "s3cret"))
    assert kept.password is None
    path = folder / "rio-terrascope" / "logins.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "s3cret" not in path.read_text()
    assert LoginStore(Settings()).load() == kept
    assert kept.source == str(path)
    assert "s3cret" not in repr(SavedLogin("ann", token(1), "s3cret"))
    assert "refresh1" not in repr(kept)


def test_one_login_for_each_token_endpoint():
    other = Settings(token_url="https://login.example/token")
    save(SavedLogin("ann", token(1)))
    save(SavedLogin("bob", token(2)), other)
    assert LoginStore(Settings()).load().username == "ann"
    store = LoginStore(other)
    with store.locked():
        assert store.remove().username == "bob"
        assert store.remove() is None
    assert LoginStore(Settings()).load().username == "ann"


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"x": 1}', b"\xff\xfe"])
def test_a_broken_file_is_not_a_login(folder, content):
    (folder / "rio-terrascope").mkdir()
    path = folder / "rio-terrascope" / "logins.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert LoginStore(Settings()).load() is None
    path.write_text(json.dumps({f"{Settings().token_url} public": '{"username": "ann"}'}))
    assert LoginStore(Settings()).load() is None


def test_the_saved_login_comes_after_the_environment_and_before_netrc(folder):
    (folder / "netrc").write_text("machine sso.terrascope.be login nat password p\n")
    settings, netrc = Settings(), {"NETRC": str(folder / "netrc")}
    in_environ = {"TERRASCOPE_USERNAME": "eve", "TERRASCOPE_PASSWORD": "p"}
    save(SavedLogin("ann", Token("a", 2e9, "r", None)))
    assert find_credentials(settings, environ=netrc).username == "ann"
    assert find_credentials(settings, environ=netrc | in_environ).username == "eve"
    assert find_credentials(settings, "nat", environ=netrc).username == "nat"
    save(SavedLogin("ann", token(1)))  # which ended in 1970
    assert find_credentials(settings, environ=netrc).username == "nat"


def test_a_saved_login_has_the_same_account_as_its_user():
    save(SavedLogin("ann", Token("a", 2e9, "r", None)))
    source = TokenSource(settings=Settings())
    assert source.get().access_token == "a"
    assert source.credentials is None
    assert source.account == TokenSource("ann", "p", settings=Settings()).account


def test_processes_take_turns_and_nobody_uses_a_refresh_token_twice(in_threads):
    save(SavedLogin("ann", token(1, expires_at=NOW - 1)))
    server = Endpoint()
    got = []

    def work():
        got.append(endpoint_with(server).refresh_grant("refresh1").access_token)

    in_threads(*[work] * 8)
    assert got == ["access2"] * 8
    assert server.used == ["refresh1"]
    assert LoginStore(Settings()).load().token.refresh_token == "refresh2"


def test_the_newest_refresh_token_is_used_whatever_the_caller_has():
    save(SavedLogin("ann", token(7, expires_at=NOW - 1)))
    server = Endpoint()
    endpoint_with(server).refresh_grant("refresh1")
    assert server.used == ["refresh7"]


def test_trouble_keeps_the_saved_login():
    save(SavedLogin("ann", token(1)))
    server = Endpoint()
    server.trouble = TokenEndpointError("it is down")
    with pytest.raises(TokenEndpointError):
        endpoint_with(server).refresh_grant("refresh1")
    assert LoginStore(Settings()).load().token == token(1)


def test_another_users_login_is_not_used():
    save(SavedLogin("bob", token(1)))
    with pytest.raises(RefreshRefusedError, match="user ann is no longer there"):
        endpoint_with(Endpoint()).refresh_grant("refresh1")


def test_a_login_that_has_ended_says_what_to_type():
    save(SavedLogin("ann", token(1)))
    server = Endpoint()
    server.used.append("refresh1")
    with pytest.raises(RefreshRefusedError, match=r"has ended \(Stale token\)\. Next: tsread login"):
        endpoint_with(server).refresh_grant("refresh1")


def test_a_folder_that_cannot_be_written_to_is_named(folder):
    (folder / "rio-terrascope").write_text("a file where the folder should be")
    with pytest.raises(SettingsError, match=r"cannot be saved in .*rio-terrascope: .*make that folder"):
        save(SavedLogin("ann", token(1)))


def test_a_renewed_login_that_cannot_be_saved_is_still_used(folder, caplog):
    save(SavedLogin("ann", token(1)))
    (folder / "rio-terrascope" / "logins.json.next").mkdir()  # so that the file cannot be written
    assert endpoint_with(Endpoint()).refresh_grant("refresh1") == token(2)
    assert "lost for later commands" in caplog.text
    assert "refresh2" not in caplog.text


def test_a_login_without_a_refresh_token_cannot_be_renewed():
    save(SavedLogin("ann", Token("access1", NOW + 1, None, None)))
    with pytest.raises(RefreshRefusedError, match=r"user ann cannot be renewed\. Next: tsread login"):
        endpoint_with(Endpoint()).refresh_grant("refresh1")


@pytest.mark.parametrize("broken", ["get_keyring", "backend"])
def test_a_broken_keyring_is_ignored(folder, monkeypatch, caplog, broken):
    keyring = pytest.importorskip("keyring")

    class Locked:
        priority, name = 5, "locked"

        def get_password(self, *_):
            raise RuntimeError("locked")

        set_password = delete_password = get_password

    def get_keyring():
        if broken == "get_keyring":
            raise RuntimeError("no service")
        return Locked()

    monkeypatch.setattr(keyring, "get_keyring", get_keyring)
    caplog.set_level("INFO")
    kept = save(SavedLogin("ann", token(1), "s3cret"))
    assert kept.source == str(folder / "rio-terrascope" / "logins.json")
    assert LoginStore(Settings()).load() == kept
    assert ("could not be written to" in caplog.text) == (broken == "backend")
    assert "s3cret" not in caplog.text
