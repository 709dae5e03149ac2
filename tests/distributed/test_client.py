"""The client's side, on a cluster without workers."""

import pytest
from distributed import Client

import dask_tasks
from helpers import grants, headers_in_memory
from rio_terrascope import (
    AccountConflictError,
    InvalidCredentialsError,
    Settings,
    TerrascopeError,
    terrascope_env,
)
from rio_terrascope.distributed import TerrascopePlugin


@pytest.fixture
def client():
    with Client(n_workers=0, processes=False, dashboard_address=":0") as client:
        yield client


def test_the_client_reads_too(steady, register):
    register(steady)
    assert dask_tasks.try_plainly(steady.url()) == "read"
    with terrascope_env(steady.username, steady.password, settings=Settings.from_environ(steady.environ)):
        assert dask_tasks.try_plainly(steady.url() + "?again") == "read"
    assert grants(steady.requests(), "password") == 1


def test_a_second_account_is_refused(steady, register):
    register(steady)
    with pytest.raises(AccountConflictError):
        TerrascopePlugin("someone-else", "other", settings=Settings.from_environ(steady.environ))


def test_wrong_credentials_raise_where_the_plugin_is_made(steady, client):
    with pytest.raises(InvalidCredentialsError):
        TerrascopePlugin(steady.username, "wrong", settings=Settings.from_environ(steady.environ))
    assert headers_in_memory() == []


def test_without_a_client():
    with pytest.raises(TerrascopeError, match=r"no Dask client.*Next"):
        TerrascopePlugin("somebody", "a-password")
