"""No tool that prints the local variables of a traceback finds a secret, on any error path.

The tools are pytest -l, rich and Sentry, as their users run them, and Python's own `traceback`.
"""

import dataclasses
import importlib
import io
import pkgutil
import signal
import subprocess
import sys
import threading
import traceback

import pytest
import rasterio
import rich.console
import rich.traceback
from _pytest._code import ExceptionInfo
from sentry_sdk.client import get_options
from sentry_sdk.serializer import serialize
from sentry_sdk.utils import event_from_exception

import rio_terrascope
from rio_terrascope import Settings, TerrascopeSession, Token, TokenSource, login, terrascope_env
from rio_terrascope.auth.store import LoginStore, SavedLogin
from rio_terrascope.gdal.header import Header
from rio_terrascope.gdal.libgdal import load
from rio_terrascope.programs import run
from sweep import SECRET

# written so that the lines of this file, which the tools show too, hold no secret
WRONG, OTHER, REFRESH = "wr0ng-s3cret", "other-password", "sandbox-refresh-none"


def printed(error):
    """Return what the tools print of an exception, its chain and the local variables of all frames."""
    info = ExceptionInfo.from_exception(error)
    console = rich.console.Console(file=io.StringIO(), width=300)
    traced = rich.traceback.Traceback.from_exception(
        type(error), error, error.__traceback__, show_locals=True, locals_max_string=None
    )
    console.print(traced)
    event, _hint = event_from_exception(error, client_options=get_options())
    plain = traceback.TracebackException.from_exception(error, capture_locals=True)
    return {
        "pytest -l": str(info.getrepr(showlocals=True, style="long", funcargs=True)),
        "rich": console.file.getvalue(),
        "Sentry": repr(serialize(event, max_request_body_size="always")),
        "traceback": "".join(plain.format()),
    }


def interrupted(sandbox, server, call):
    """Call a function, and press Ctrl-C when a server has its request and does not answer."""
    sandbox.hang(times=None, server=server)
    sandbox.clear()

    def press():
        sandbox.wait_for(lambda requests: requests[-1:] and requests[-1].status is None, server=server)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        call()
    finally:
        presser.join()


def enter():
    with terrascope_env():
        pass


def inside(work, **options):
    with terrascope_env(GDAL_HTTP_MAX_RETRY=0, **options) as env:
        work(env)


def save(sandbox, monkeypatch, **fields):
    """Save a login, and leave the password out of the environment."""
    token = TokenSource().get()
    store = LoginStore(Settings.from_environ())
    with store.locked():
        store.save(SavedLogin(sandbox.username, token))
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"TERRASCOPE_{name}")


def saved_and_ended(sandbox, monkeypatch):
    save(sandbox, monkeypatch)
    sandbox.end_sessions()
    TokenSource().refresh()


def saved_and_locked(sandbox, monkeypatch):
    save(sandbox, monkeypatch)
    monkeypatch.setenv("TERRASCOPE_TIMEOUT", "0.3")
    held, done = threading.Event(), threading.Event()

    def hold():
        with LoginStore(Settings.from_environ()).locked():
            held.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    try:
        TokenSource().refresh()
    finally:
        done.set()
        holder.join()


def no_memory(sandbox, monkeypatch):
    token = TokenSource().get()
    monkeypatch.setattr(load(), "VSIMalloc", lambda size: None)
    Header().write(token.access_token)


def listener_fails(sandbox, monkeypatch):
    def listener(token):
        raise RuntimeError("a bug")

    tokens = TokenSource()
    tokens.subscribe(listener)
    tokens.get()


def with_environ(name, value, call):
    def path(sandbox, monkeypatch):
        monkeypatch.setenv(name, value)
        call()

    return path


def after(trouble, call):
    def path(sandbox, monkeypatch):
        trouble(sandbox)
        call(sandbox)

    return path


def refresh_in(trouble):
    """Log in, and refresh in trouble."""
    return after(
        lambda sandbox: None,
        lambda sandbox: inside(lambda env: (trouble(sandbox), env.refresh())),
    )


def open_in(trouble, **options):
    return after(
        lambda sandbox: None,
        lambda sandbox: inside(lambda env: (trouble(sandbox), env.open(sandbox.url())), **options),
    )


def read_in_trouble(env, sandbox):
    with env.open(sandbox.url()) as src:
        sandbox.fail(500, times=None)
        src.read(1, window=((16000, 16100), (16500, 16600)))


TROUBLE = {
    "503": lambda sandbox: sandbox.fail(503, times=None, server="sso", headers={"Retry-After": "0"}),
    "429 for an hour": lambda sandbox: sandbox.fail(429, server="sso", headers={"Retry-After": "3600"}),
    "reset": lambda sandbox: sandbox.reset(times=None, server="sso"),
    "redirect": lambda sandbox: sandbox.fail(302, server="sso", headers={"Location": "http://[::1"}),
    "HTML": lambda sandbox: sandbox.token_answer("<html>", times=2),
    "no expires_in": lambda sandbox: sandbox.token_answer({"expires_in": None}, times=2),
    "no access_token": lambda sandbox: sandbox.token_answer({"access_token": "a b"}, times=2),
    "400": lambda sandbox: sandbox.fail(400, times=2, server="sso"),
    "echo": lambda sandbox: sandbox.echo("percent"),
    "disabled": lambda sandbox: sandbox.disable(sandbox.username),
    "negative chunk": lambda sandbox: sandbox.raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n", server="sso"
    ),
    "not HTTP": lambda sandbox: sandbox.raw(b"SSH-2.0\r\n", times=None, server="sso"),
}

PATHS = {
    "wrong password": lambda s, m: terrascope_env("researcher", WRONG).__enter__(),
    "wrong password, scope env": lambda s, m: terrascope_env("researcher", WRONG, scope="env").__enter__(),
    "wrong password, login": lambda s, m: login("researcher", WRONG),
    "wrong password, TokenSource": lambda s, m: TokenSource("researcher", WRONG).get(),
    "wrong password, session": lambda s, m: TerrascopeSession("researcher", WRONG).get_credential_options(),
    "wrong password, program": lambda s, m: run(["true"], TokenSource("researcher", WRONG)),
    "wrong password, same account": lambda s, m: inside(
        lambda env: terrascope_env("researcher", WRONG).__enter__()
    ),
    "wrong scope": lambda s, m: terrascope_env("researcher", WRONG, scope="all"),
    "another account": lambda s, m: inside(lambda env: terrascope_env("colleague", OTHER).__enter__()),
    "no username": lambda s, m: (m.delenv("TERRASCOPE_USERNAME"), enter()),
    "wrong timeout": with_environ("TERRASCOPE_TIMEOUT", "soon", enter),
    "wrong origin": with_environ("TERRASCOPE_ORIGINS", "http://example.org", enter),
    "wrong URL": with_environ("TERRASCOPE_TOKEN_URL", "http://[::1", enter),
    "no certificates": lambda s, m: (
        m.setenv("SSL_CERT_FILE", "/no/such/file"),
        m.setenv("TERRASCOPE_TOKEN_URL", "https://127.0.0.1:9/token"),
        enter(),
    ),
    **{f"login: {name}": after(trouble, lambda sandbox: enter()) for name, trouble in TROUBLE.items()},
    **{f"refresh: {name}": refresh_in(trouble) for name, trouble in TROUBLE.items()},
    "open: 403": open_in(lambda sandbox: sandbox.deny("WORLDCOVER")),
    "open: 403, scope env": open_in(lambda sandbox: sandbox.deny("WORLDCOVER"), scope="env"),
    "open: 401": open_in(lambda sandbox: sandbox.fail(401, times=None)),
    "open: 401, scope env": open_in(lambda sandbox: sandbox.fail(401, times=None), scope="env"),
    "open: 500": open_in(lambda sandbox: sandbox.fail(500, times=None)),
    "read: 500": lambda s, m: inside(lambda env: read_in_trouble(env, s)),
    "read: 500, scope env": lambda s, m: inside(lambda env: read_in_trouble(env, s), scope="env"),
    "saved login, ended": saved_and_ended,
    "saved login, locked": saved_and_locked,
    "no memory in GDAL": no_memory,
    "a listener fails": listener_fails,
    "a token that is none": lambda s, m: TokenSource(token=Token("a", 1.0, REFRESH)).get(),
    "Ctrl-C at the login": lambda s, m: interrupted(s, "sso", enter),
    "Ctrl-C at the refresh": lambda s, m: inside(lambda env: interrupted(s, "sso", env.refresh)),
    "Ctrl-C at the server's reason": lambda s, m: inside(
        lambda env: (
            s.fail(403, method="HEAD", times=None),
            interrupted(s, "data", lambda: env.open(s.url())),
        )
    ),
}


@pytest.mark.fault(
    "any error, in tools that print the variables of tracebacks (`pytest -l`, rich, Sentry)",
    sees="no password and no token",
    requests="those of the error",
)
@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_no_tool_shows_a_secret(sandbox, monkeypatch, path):
    monkeypatch.setenv("TERRASCOPE_TIMEOUT", "2")  # so that there are few attempts
    failed = None
    try:
        path(sandbox, monkeypatch)
    except BaseException as error:
        failed = error
    assert failed is not None, "nothing failed"
    for tool, text in printed(failed).items():
        assert len(text) > 200, "the tool printed nothing"
        found = SECRET.search(text.encode())
        assert found is None, f"{tool} shows {text[found.start() - 300 : found.end()]}"


def test_the_tools_would_show_one():
    def careless(password):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        careless({"password": [WRONG]})
    assert all(SECRET.search(text.encode()) for text in printed(raised.value).values())


def test_a_real_run_of_pytest(sandbox, tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import os, rio_terrascope\n"
        "def test_enter():\n"
        "    os.environ['TERRASCOPE_PASSWORD'] = 'wr0ng-' + 's3cret'\n"
        "    rio_terrascope.terrascope_env().__enter__()\n"
        "def test_open():\n"
        "    os.environ['TERRASCOPE_PASSWORD'] = 'sandbox-' + 'password'\n"
        "    with rio_terrascope.terrascope_env(scope='env') as env:\n"
        f"        env.open('{sandbox.origin}/download/nothing.tif')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-l", "--tb=long", "-p", "no:cacheprovider", tmp_path, "-n0"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert "2 failed" in done.stdout
    assert "InvalidCredentialsError" in done.stdout
    assert SECRET.search(done.stdout.encode()) is None


def test_an_option_with_the_token_still_works(sandbox):
    """With scope="env" it is a text for GDAL, and for whatever copies the options to other processes."""
    with terrascope_env(scope="env") as env:
        option = rasterio.env.getenv()["GDAL_HTTP_HEADERS"]
        assert str(option) == f"Authorization: Bearer {env.token.access_token}"
        assert SECRET.search(repr(rasterio.env.getenv()).encode()) is None
        rasterio.open(sandbox.url()).close()


def classes():
    """Return the classes of the package that write their own repr."""
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(rio_terrascope.__path__, "rio_terrascope.")
        if "sandbox" not in info.name and "__main__" not in info.name
    ]
    found = {thing for module in modules for thing in vars(module).values() if isinstance(thing, type)}
    own = {cls for cls in found if cls.__module__.startswith("rio_terrascope") and "__repr__" in vars(cls)}
    return sorted((cls for cls in own if not dataclasses.is_dataclass(cls)), key=str)


@pytest.mark.parametrize("cls", classes())
def test_an_object_whose_init_has_raised_has_a_repr(cls):
    assert repr(cls.__new__(cls)).startswith("<")
