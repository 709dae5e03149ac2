"""One sandbox for all tests in this folder. It is healed, and its journal emptied, before each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from rio_terrascope.sandbox import Sandbox

CONTENT = bytes(range(256)) * 400


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    file = tmp_path_factory.mktemp("tiles") / "tile.tif"
    file.write_bytes(CONTENT)
    with Sandbox(tiles=[file], accounts={"colleague": "other-password"}) as sandbox:
        yield sandbox


def reset(sandbox: Sandbox) -> Sandbox:
    sandbox.heal()
    sandbox.clear()
    return sandbox


@pytest.fixture
def bare(running: Sandbox) -> Sandbox:
    """A sandbox with one small file, which is not a raster."""
    return reset(running)


def grant(bare: Sandbox, **fields: str) -> requests.Response:
    return requests.post(bare.token_url, data={"client_id": "public", **fields}, timeout=10)


def login(bare: Sandbox, username: str = "", password: str = "") -> dict[str, Any]:
    answer = grant(
        bare,
        grant_type="password",
        username=username or bare.username,
        password=password or bare.password,
    )
    answer.raise_for_status()
    return dict(answer.json())


@pytest.fixture
def get(bare: Sandbox) -> Callable[..., requests.Response]:
    """GET with a fresh token, by default without following redirects."""
    token = login(bare)["access_token"]
    bare.clear()

    def get(url: str = "", *, method: str = "GET", **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        options = {"timeout": 10, "allow_redirects": False, **options}
        return requests.request(method, url or bare.url(), headers=headers, **options)

    return get


def local(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
