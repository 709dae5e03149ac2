"""The order in which username and password are looked up, and the error if they are not found."""

import pytest

from rio_terrascope import CredentialsNotFoundError, Settings
from rio_terrascope.auth.credentials import find_credentials

SETTINGS = Settings()


@pytest.fixture(autouse=True)
def nothing_saved(tmp_path, monkeypatch):
    """Hide any login that is saved on this machine."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")


def environ(tmp_path, netrc=None, **more):
    """An environment with a netrc file that the test writes."""
    path = tmp_path / "netrc"
    if netrc is not None:
        path.write_text(netrc)
    return {"NETRC": str(path), **more}


BOTH = {"TERRASCOPE_USERNAME": "eve", "TERRASCOPE_PASSWORD": "from-environ"}
NETRC = "machine sso.terrascope.be login nat password from-netrc\n"


def test_arguments_come_first(tmp_path):
    found = find_credentials(SETTINGS, "ann", "from-arguments", environ=environ(tmp_path, NETRC, **BOTH))
    assert (found.username, found.password.reveal(), found.source) == ("ann", "from-arguments", "arguments")


def test_then_the_environment(tmp_path):
    found = find_credentials(SETTINGS, environ=environ(tmp_path, NETRC, **BOTH))
    assert (found.username, found.password.reveal()) == ("eve", "from-environ")
    assert "TERRASCOPE_USERNAME" in found.source


def test_then_netrc(tmp_path):
    found = find_credentials(SETTINGS, environ=environ(tmp_path, NETRC))
    assert (found.username, found.password.reveal()) == ("nat", "from-netrc")
    assert found.source == str(tmp_path / "netrc")


def test_netrc_in_the_home_directory(tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text(NETRC)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_credentials(SETTINGS, environ={}).username == "nat"


def test_netrc_is_for_the_token_endpoints_host(tmp_path):
    env = environ(tmp_path, NETRC + "machine login.example login oth password other\n")
    found = find_credentials(Settings(token_url="https://login.example/token"), environ=env)
    assert found.password.reveal() == "other"


def test_a_username_narrows_the_other_sources(tmp_path):
    env = environ(tmp_path, NETRC, **BOTH)
    assert find_credentials(SETTINGS, "eve", environ=env).password.reveal() == "from-environ"
    assert find_credentials(SETTINGS, "nat", environ=env).password.reveal() == "from-netrc"
    with pytest.raises(CredentialsNotFoundError, match="password for user ann"):
        find_credentials(SETTINGS, "ann", environ=env)
    only_password = environ(tmp_path, TERRASCOPE_PASSWORD="from-environ")
    assert find_credentials(SETTINGS, "ann", environ=only_password).username == "ann"


@pytest.mark.parametrize(
    ("netrc", "said"),
    [
        (None, "no such file"),
        ("machine other.example login a password b\n", "no entry for sso.terrascope.be"),
        ("default login anonymous password s3cret\n", "no entry for sso.terrascope.be"),
        ("machine sso.terrascope.be login a\n", "lacks a login or a password"),
        ("machine sso.terrascope.be login a pasword s3cret\n", "cannot be understood"),
        ("s3cret\n", "cannot be understood"),
    ],
)
def test_no_credentials_found(tmp_path, netrc, said):
    with pytest.raises(CredentialsNotFoundError) as raised:
        find_credentials(SETTINGS, environ=environ(tmp_path, netrc, TERRASCOPE_USERNAME="eve"))
    message = str(raised.value).replace(str(tmp_path), "")
    assert said in message
    assert "arguments (none)" in message
    assert "TERRASCOPE_USERNAME (set), TERRASCOPE_PASSWORD (not set)" in message
    assert "Next: run 'tsread login', or set TERRASCOPE_USERNAME" in message
    assert "s3cret" not in message
    # the netrc parser's own error would quote the file
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


def test_a_netrc_that_is_not_text(tmp_path):
    (tmp_path / "netrc").write_bytes(b"\xff\xfe\x00machine")
    with pytest.raises(CredentialsNotFoundError, match=r"not text|cannot be understood"):
        find_credentials(SETTINGS, environ=environ(tmp_path))


def test_repr_shows_no_password(tmp_path):
    found = find_credentials(SETTINGS, "ann", "s3cret", environ={})
    assert "s3cret" not in repr(found)
    assert "ann" in repr(found)
