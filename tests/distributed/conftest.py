"""Sandboxes that the environment does not name, because workers inherit it; and logins at them."""

import time

import pytest

from rio_terrascope import Settings
from rio_terrascope.distributed import TerrascopePlugin
from rio_terrascope.sandbox import Sandbox

ACCOUNT = {"username": "cluster-user", "password": "a-password-like-no-other-in-memory"}


@pytest.fixture(scope="module")
def steady(tiles):
    """A sandbox whose tokens live 300 s."""
    with Sandbox(tiles=tiles, **ACCOUNT) as server:
        yield server


@pytest.fixture(scope="module")
def brief(tiles):
    """A sandbox whose tokens live 2 s."""
    with Sandbox(tiles=tiles, **ACCOUNT, token_lifetime=2.0) as server:
        yield server


@pytest.fixture
def log_in():
    """Create a plugin, which logs in. The login ends with the test."""
    plugins = []

    def log_in(server, **options):
        server.clear()
        settings = Settings.from_environ(server.environ)
        plugins.append(TerrascopePlugin(server.username, server.password, settings=settings, **options))
        return plugins[-1]

    yield log_in
    for plugin in plugins:
        plugin.close()


@pytest.fixture
def register(client, log_in):
    """Log in and register the plugin."""

    def register(server, **options):
        plugin = log_in(server, **options)
        client.register_plugin(plugin)
        return plugin

    return register


@pytest.fixture(scope="module")
def until():
    """Call a function until its answer satisfies a condition, and return the answer."""

    def until(answer, wanted, seconds=30):
        deadline = time.monotonic() + seconds
        while True:
            value = answer()
            if wanted(value):
                return value
            assert time.monotonic() < deadline, value

    return until
