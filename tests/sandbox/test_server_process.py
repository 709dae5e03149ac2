"""The server process: how it starts and ends, and what other users of the machine can see."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from rio_terrascope.sandbox import Sandbox

from .conftest import login


def alive(pid: int) -> bool:
    try:
        # A process that has ended remains a zombie until its parent waits for it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition: Callable[[], bool], timeout: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def tile(bare: Sandbox) -> Path:
    return bare.file()


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=15,
    )


def test_start_and_stop_by_hand(tile: Path) -> None:
    sandbox = Sandbox(tiles=[tile])
    sandbox.stop()
    with pytest.raises(RuntimeError, match="not running"):
        sandbox.url()
    assert sandbox.start() is sandbox.start()
    pid = sandbox.pid
    assert alive(pid)
    sandbox.stop()
    sandbox.stop()
    assert not alive(pid)
    assert repr(sandbox) == "<Sandbox, not running>"
    with sandbox:
        assert login(sandbox)["token_type"] == "Bearer"


def test_environ_points_a_client_here(bare: Sandbox) -> None:
    assert bare.environ == {
        "TERRASCOPE_USERNAME": "researcher",
        "TERRASCOPE_PASSWORD": "sandbox-password",
        "TERRASCOPE_TOKEN_URL": bare.token_url,
        "TERRASCOPE_CLIENT_ID": "public",
        "TERRASCOPE_ORIGINS": bare.origin,
        "TERRASCOPE_STAC_URL": bare.catalogue_url,
    }


def test_tiles_are_offered_under_their_real_paths(tmp_path: Path) -> None:
    names = ["mine.tif", "ESA_WorldCover_10m_2021_v200_S03W060_Map.tif", "another.tif"]
    for name in names:
        (tmp_path / name).write_text(name)
    with Sandbox(tiles=[tmp_path / name for name in names]) as sandbox:
        stems = [
            "ESA_WORLDCOVER_10M_2020_V100/MAP/ESA_WorldCover_10m_2020_v100_N00E006_Map",
            "ESA_WORLDCOVER_10M_2021_V200/MAP/ESA_WorldCover_10m_2021_v200_S03W060_Map",
        ]
        assert sandbox.urls == [
            *(f"{sandbox.origin}/download/WORLDCOVER/{stem}/{stem.rpartition('/')[2]}.tif" for stem in stems),
            f"{sandbox.origin}/download/another.tif",
        ]
        assert [sandbox.file(url).name for url in sandbox.urls] == names
    with pytest.raises(FileNotFoundError):
        Sandbox(tiles=[tmp_path / "missing.tif"])


def test_a_failed_start_gives_the_reason(tile: Path, tmp_path: Path) -> None:
    (tmp_path / "tile.tif").write_text("the same name, so the same URL")
    (tmp_path / "ESA_WorldCover_10m_2020_v100_N00E006_Map.tif").write_text("")
    with (
        pytest.raises(RuntimeError, match="Two tiles for one URL"),
        Sandbox(
            tiles=[tmp_path / "ESA_WorldCover_10m_2020_v100_N00E006_Map.tif", tile, tmp_path / tile.name]
        ),
    ):
        pass


def test_missing_libraries_are_named(tile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError('No starlette', name='starlette')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(ImportError, match=r"starlette.*pip install 'rio-terrascope\[sandbox\]'"):
        Sandbox(tiles=[tile]).start()


def test_importing_the_sandbox_imports_no_server() -> None:
    result = run("""
        import sys
        import rio_terrascope.sandbox
        print({"starlette", "uvicorn", "joserfc"} & set(sys.modules))
    """)
    assert result.stdout == "set()\n", result.stderr


def test_no_secret_can_be_seen_from_outside(bare: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERRASCOPE_PASSWORD", "the-real-one")
    with Sandbox(tiles=[bare.file()], password="not-for-everybody") as secretive:
        for name in ["cmdline", "environ"]:
            visible = Path(f"/proc/{secretive.pid}/{name}").read_bytes()
            assert visible
            assert b"not-for-everybody" not in visible
            assert b"the-real-one" not in visible


@pytest.mark.parametrize("end", ["os._exit(1)", "os.kill(os.getpid(), 9)", "sys.exit()"])
def test_it_ends_with_its_parent(tile: Path, end: str) -> None:
    result = run(
        f"""
        import os, sys
        from rio_terrascope.sandbox import Sandbox
        sandbox = Sandbox(tiles=sys.argv[1:]).start()
        print(sandbox.pid, flush=True)
        {end}
        """,
        tile,
    )
    assert eventually(lambda: not alive(int(result.stdout))), "an orphan"
    assert result.stderr == ""


def test_a_forked_child_neither_stops_nor_holds_it(tile: Path) -> None:
    result = run(
        """
        import os, sys, time
        from rio_terrascope.sandbox import Sandbox
        with Sandbox(tiles=sys.argv[1:]) as sandbox:
            if os.fork() == 0:
                sandbox.url()
                try:
                    sandbox.requests()
                except RuntimeError as error:
                    sys.stdout.write(f"{error}\\n")
                sys.exit()  # leaves the block and runs the exit handlers
            os.wait()
            assert sandbox.requests() == []
            sys.stdout.flush()
            if os.fork() == 0:
                os.close(1); os.close(2)
                time.sleep(20)  # outlives the parent, and the patience of this test
                os._exit(0)
            print(sandbox.pid, flush=True)
            os._exit(0)
        """,
        tile,
    )
    assert result.stderr == ""
    message, pid = result.stdout.splitlines()
    assert message == "Only the process that started the sandbox can control it"
    assert eventually(lambda: not alive(int(pid))), "held by the forked child"


def test_it_ends_quietly_while_requests_hang(tile: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Sandbox(tiles=[tile]) as sandbox:
        sandbox.hang(None, server="other")
        url = sandbox.other_url()

        def hung() -> None:
            with pytest.raises(requests.ConnectionError):
                requests.get(url, timeout=10)

        threads = [threading.Thread(target=hung) for _ in range(3)]
        for thread in threads:
            thread.start()
        sandbox.wait_for(lambda seen: len(seen) == 3)
        start = time.monotonic()
    assert time.monotonic() - start < 2
    for thread in threads:
        thread.join()
    assert capfd.readouterr() == ("", "")


def test_a_server_process_that_died_is_noticed(tile: Path) -> None:
    with Sandbox(tiles=[tile]) as sandbox:
        os.kill(sandbox.pid, 9)
        with pytest.raises(RuntimeError, match="has ended"):
            sandbox.requests()


def test_many_threads_may_control_it(bare: Sandbox, in_threads: Callable[..., None]) -> None:
    def work(number: int) -> None:
        for _ in range(20):
            requests.get(bare.other_url(f"?n={number}"), timeout=10)
            assert any(request.query == f"n={number}" for request in bare.requests())

    in_threads(*[functools.partial(work, number) for number in range(6)])
    assert len(bare.requests("other")) == 120
