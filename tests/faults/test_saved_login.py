"""Every fault of the saved login: it is used if it is right and private, else ignored, and never waited for
for ever.
"""

import json
import os
import signal
import stat
import subprocess
import sys
import time

import pytest
import rasterio

from helpers import grants, in_child
from rio_terrascope import CredentialsNotFoundError, Settings, TokenSource, terrascope_env
from rio_terrascope.auth import lock
from rio_terrascope.auth.store import LoginStore, SavedLogin


@pytest.fixture
def saved(sandbox, monkeypatch):
    """The file with a saved login; the environment holds no password."""
    store = LoginStore(Settings.from_environ())
    token = TokenSource().get()
    with store.locked():
        store.save(SavedLogin(sandbox.username, token))
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"TERRASCOPE_{name}")
    sandbox.clear()
    file = store.file
    yield file
    for left in {file, file.resolve()}:  # some tests open it to others, which the sweep would find
        left.unlink(missing_ok=True)


def change(file, **fields):
    """Change fields of the login in the file; None leaves a field out, and `token` is merged."""
    logins = json.loads(file.read_text())
    ((key, text),) = logins.items()
    login = json.loads(text)
    login["token"] |= fields.pop("token", {})
    login |= fields
    file.write_text(json.dumps({key: json.dumps({k: v for k, v in login.items() if v is not None})}))


def change_text(file, text):
    logins = json.loads(file.read_text())
    file.write_text(json.dumps(dict.fromkeys(logins, text)))


DAMAGED = {
    "empty": lambda file: file.write_text(""),
    "not text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
    "half a file": lambda file: file.write_text(file.read_text()[:100]),
    "a list": lambda file: file.write_text("[]"),
    "deep": lambda file: file.write_text("[" * 100_000),
    "a number for a login": lambda file: change_text(file, 7),
    "a login that is a list": lambda file: change_text(file, "[]"),
    "a login that is a number": lambda file: change_text(file, "7"),
    "a login that is deep": lambda file: change_text(file, "[" * 100_000),
    "no username": lambda file: change(file, username=None),
    "a username that is a list": lambda file: change(file, username=["a"]),
    "an empty username": lambda file: change(file, username=""),
    "a username with a newline": lambda file: change(file, username="a\nb"),
    "a username with an escape": lambda file: change(file, username="a\x1b]0;x\x07"),
    "a password that is a number": lambda file: change(file, password=7),
    "a token that is a text": lambda file: change_text(file, '{"username": "a", "token": "b"}'),
    "a token without fields": lambda file: change_text(file, '{"username": "a", "token": {}}'),
    "a newline in the token": lambda file: change(file, token={"access_token": "a\nX-Evil: 1"}),
    "a comma in the token": lambda file: change(file, token={"access_token": "a,X-Evil: 1"}),
    "an access token that is a number": lambda file: change(file, token={"access_token": 7}),
    "a long access token": lambda file: change(file, token={"access_token": "a" * 20_000}),
    "a refresh token that is a list": lambda file: change(file, token={"refresh_token": ["a"]}),
    "an empty refresh token": lambda file: change(file, token={"refresh_token": ""}),
    "a refresh token with a newline": lambda file: change(file, token={"refresh_token": "a\nb"}),
    "an end that is a text": lambda file: change(file, token={"expires_at": "soon"}),
    "an end that is true": lambda file: change(file, token={"expires_at": True}),
    "an end without end": lambda file: change(file, token={"expires_at": float("inf")}),
    "an end that is not a number": lambda file: change(file, token={"expires_at": float("nan")}),
    "an end with 400 digits": lambda file: change(file, token={"expires_at": 10**400}),
    "an end before the epoch": lambda file: change(file, token={"expires_at": -1.0}),
    "a refresh end that is a text": lambda file: change(file, token={"refresh_expires_at": "soon"}),
    "a scope that is a list": lambda file: change(file, token={"scope": ["a"]}),
    "a scope with an escape": lambda file: change(file, token={"scope": "\x1b[31m"}),
}


@pytest.mark.fault(
    "a saved login that is damaged in any way",
    sees="`CredentialsNotFoundError`; the log says that it is ignored",
    requests="0",
)
@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_login(row, sandbox, saved, damage):
    damage(saved)
    with pytest.raises(CredentialsNotFoundError), terrascope_env():
        pass
    row.shows_kind("CredentialsNotFoundError")
    row.costs(sandbox.requests())


@pytest.mark.fault(
    "a saved login that other users may write",
    sees='`CredentialsNotFoundError`; in the log: "other users may write to it"',
    requests="0",
)
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write(row, sandbox, saved, caplog, mode):
    saved.chmod(mode)
    with pytest.raises(CredentialsNotFoundError), terrascope_env():
        pass
    row.shows(caplog.text)
    row.costs(sandbox.requests())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("link", [False, True])
def test_a_file_of_another_user(sandbox, saved, tmp_path, link):
    if link:
        saved.rename(tmp_path / "elsewhere")
        saved.symlink_to(tmp_path / "elsewhere")
    os.chown(saved, 12345, 12345)
    saved.chmod(0o644)
    assert LoginStore(Settings.from_environ()).load() is None


@pytest.mark.fault(
    "XDG_CONFIG_HOME or HOME that is empty or relative",
    sees="`CredentialsNotFoundError`: nothing in the working directory is read or written",
    requests="0",
)
@pytest.mark.parametrize("named", ["", ".", "config"])
@pytest.mark.parametrize("variable", ["XDG_CONFIG_HOME", "HOME"])
def test_a_relative_folder(row, sandbox, saved, monkeypatch, tmp_path, variable, named):
    planted = tmp_path / "clone"
    for folder in (named, f"{named}/.config"):
        (planted / folder / "rio-terrascope").mkdir(parents=True, exist_ok=True)
        (planted / folder / "rio-terrascope" / "logins.json").write_text(saved.read_text())
        (planted / folder / "rio-terrascope" / "logins.json").chmod(0o600)
    host = Settings.from_environ().token_host
    (planted / named / ".netrc").write_text(f"machine {host} login a password b\n")
    monkeypatch.chdir(planted)
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv(variable, named)
    before = sorted(planted.rglob("*"))
    with pytest.raises(CredentialsNotFoundError), terrascope_env():
        pass
    row.shows_kind("CredentialsNotFoundError")
    row.costs(sandbox.requests())
    assert sorted(planted.rglob("*")) == before


@pytest.mark.fault(
    "clock 2 h ahead when the login was saved", sees="right pixels", requests="1 for the renewal"
)
def test_a_clock_that_was_ahead(row, sandbox, saved, reads_right):
    change(saved, saved_at=time.time() + 7200, token={"expires_at": time.time() + 7200 + 300})
    sandbox.expire_tokens()
    with terrascope_env(), rasterio.open(sandbox.url()) as src:
        reads_right(src)
    row.costs(sandbox.requests("sso"))
    assert {request.authorization for request in sandbox.requests("data")} == {"valid"}


HOLDER = """
import sys
from rio_terrascope import Settings
from rio_terrascope.auth.store import LoginStore
with LoginStore(Settings.from_environ()).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.fault(
    "the process that renews the saved login is stopped, or killed",
    sees="right pixels, after at most `TERRASCOPE_TIMEOUT`",
    requests="1 for the renewal",
)
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_a_stopped_process(row, sandbox, saved, reads_right, monkeypatch, number):
    monkeypatch.setattr(lock, "SHORTEST_SECONDS", 0.0)
    monkeypatch.setenv("TERRASCOPE_TIMEOUT", "1.5")
    sandbox.expire_tokens()
    change(saved, token={"expires_at": 0.0})
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(number)
        with terrascope_env(), rasterio.open(sandbox.url()) as src:
            reads_right(src)
        holder.kill()
    row.costs(sandbox.requests("sso"))
    assert sorted(path.name for path in saved.parent.iterdir()) == ["lock", "logins.json"]


@pytest.mark.fault(
    "a file system where flock fails, or locks nothing (NFS, Lustre)",
    sees="right pixels in eight processes with one saved login",
    requests="1 for the renewal",
)
@pytest.mark.parametrize("flock", ["fails", "locks nothing"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_without_flock(row, sandbox, saved, monkeypatch, flock):
    def fails(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", fails if flock == "fails" else lambda *_: None)
    change(saved, token={"expires_at": 0.0})
    window = ((16000, 16100), (16500, 16600))
    with rasterio.open(sandbox.file()) as local:
        expected = local.read(1, window=window).sum()

    def work(number):
        with terrascope_env(), rasterio.open(f"{sandbox.url()}?{number}") as src:
            assert src.read(1, window=window).sum() == expected

    def all_at_once(number=0):
        """Fork one child inside the other, so that all work at the same time."""
        if number < 8:
            in_child(lambda: work(number), in_parent=lambda: all_at_once(number + 1))

    all_at_once()
    row.costs(sandbox.requests("sso"))
    assert {request.status for request in sandbox.requests("sso")} == {200}
    assert grants(sandbox.requests(), "password") == 0
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
