"""The lock of the saved login: one owner at a time, on any file system, and none that blocks for ever."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from helpers import in_child
from rio_terrascope import TokenEndpointError
from rio_terrascope.auth import lock
from rio_terrascope.auth.lock import SharedLock

OWNER = """
import sys
from pathlib import Path
from rio_terrascope.auth.lock import SharedLock
with SharedLock(Path(sys.argv[1]), 30.0):
    print("held", flush=True)
    sys.stdin.read()
print("released", flush=True)
"""

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="there is no /proc here")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Let an owner stand still for a short time only, and touch its file more often."""
    monkeypatch.setattr(lock, "SHORTEST_SECONDS", 0.0)
    monkeypatch.setattr(lock, "TOUCH_SECONDS", 0.05)


@pytest.fixture(params=["flock", "flock that locks nothing", "no flock"])
def file_system(request, monkeypatch):
    """What flock does: it works, succeeds without an effect (NFS, Lustre), or fails."""

    def fails(*_):
        raise OSError(95, "Operation not supported")

    if request.param != "flock":
        monkeypatch.setattr(lock.fcntl, "flock", fails if request.param == "no flock" else lambda *_: None)


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def write_owner(folder, **changes):
    """Leave a file as another owner would, and return its path."""
    with SharedLock(folder, 5.0):
        owner = json.loads((folder / "lock.owner").read_text())
    path = folder / "lock.owner"
    path.write_text(json.dumps(owner | {"id": "another"} | changes))
    return path


def test_it_names_its_owner_and_leaves_an_empty_file(tmp_path):
    with SharedLock(tmp_path, 5.0) as held:
        assert held.is_mine
        owner = json.loads((tmp_path / "lock.owner").read_text())
        assert owner["pid"] == os.getpid()
        assert (tmp_path / "lock.owner").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.glob("lock*")] == ["lock"]
    assert (tmp_path / "lock").read_bytes() == b""


def test_one_owner_at_a_time(tmp_path, file_system, in_threads):
    inside, most = [], []

    def work():
        for _ in range(5):
            with SharedLock(tmp_path, 30.0):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    in_threads(*[work] * 6)
    assert most == [1] * 30


def test_processes_take_turns(tmp_path, other):
    waiting, got = threading.Event(), threading.Event()

    def wait():
        waiting.set()
        with SharedLock(tmp_path, 30.0):
            got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert waiting.wait(10)
    assert not got.wait(0.3)
    other.stdin.close()
    assert got.wait(10)
    waiter.join()
    assert other.stdout.readline() == "released\n"


def test_a_killed_owner_is_replaced_at_once(tmp_path, other, file_system):
    other.kill()
    other.wait()
    with SharedLock(tmp_path, 1000.0):
        pass
    assert not (tmp_path / "lock.owner").exists()


def test_a_stopped_owner_is_replaced_when_its_time_is_over(tmp_path, other, file_system):
    other.send_signal(signal.SIGSTOP)
    with SharedLock(tmp_path, 1.5) as held:
        other.send_signal(signal.SIGCONT)
        other.stdin.close()
        assert other.stdout.readline() == "released\n"
        assert held.is_mine  # it has not removed the file of its successor


def test_an_owner_that_lives_is_named_and_waited_for_until_the_deadline(tmp_path, other, caplog, monkeypatch):
    monkeypatch.setattr(lock, "SAY_SECONDS", 0.5)
    with pytest.raises(TokenEndpointError, match=f"process {other.pid} on .* Next: wait for it, or end it"):
        SharedLock(tmp_path, 1.5).__enter__()
    assert caplog.text.count(f"waiting for process {other.pid} on") == 1
    other.stdin.close()
    assert other.stdout.readline() == "released\n"


def test_a_thread_is_waited_for_until_the_deadline(tmp_path, in_threads):
    def wait():
        with pytest.raises(TokenEndpointError, match="another thread of this process"):
            SharedLock(tmp_path, 0.1).__enter__()

    with SharedLock(tmp_path, 5.0):
        in_threads(wait)


@needs_proc
def test_a_number_that_another_process_has_now_is_not_the_owner(tmp_path):
    write_owner(tmp_path, pid=os.getppid(), started="1")
    with SharedLock(tmp_path, 1000.0):
        pass


@pytest.mark.parametrize("changes", [{"host": "another"}, {"pid": "x"}, {"pid": -1}, {"pid": 10**30}, {}])
def test_an_owner_that_cannot_be_looked_up_is_judged_by_the_file_systems_clock(
    tmp_path, monkeypatch, changes
):
    monkeypatch.setattr(lock, "COARSE_SECONDS", 0.1)
    path = write_owner(tmp_path, **changes)
    os.utime(path, (time.time() + 3600,) * 2)  # touched by a machine whose clock is ahead
    with pytest.raises(TokenEndpointError):
        SharedLock(tmp_path, 0.2).__enter__()
    os.utime(path, (time.time() - 1000,) * 2)
    with SharedLock(tmp_path, 999.0):
        pass


@pytest.mark.parametrize("content", ["", "null", "[" * 100_000, "{}"])
def test_a_file_that_says_nothing_is_judged_by_its_age(tmp_path, content):
    path = tmp_path / "lock.owner"
    path.write_text(content)
    os.utime(path, (time.time() - 1000,) * 2)
    with SharedLock(tmp_path, 999.0):
        pass


def test_a_file_that_ctrl_c_left_behind_is_not_in_the_way(tmp_path):
    held = SharedLock(tmp_path, 1000.0)
    assert held._try()
    with SharedLock(tmp_path, 1000.0):
        pass
    assert not held.is_mine


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_own_the_lock(tmp_path):
    with SharedLock(tmp_path, 5.0) as held:

        def leave():
            held.__exit__()
            with pytest.raises(TokenEndpointError):
                SharedLock(tmp_path, 1.0).__enter__()

        in_child(leave)
        assert held.is_mine


ALONE = """
    import os
    alone = os.path.join(sys.argv[1], "alone")
    os.close(os.open(alone, os.O_CREAT | os.O_EXCL))
    sys.stdin.read(1)
    os.unlink(alone)
"""


def test_many_processes_take_a_dead_owner_over_one_by_one(tmp_path, other):
    other.kill()
    other.wait()
    script = OWNER.replace("    sys.stdin.read()\n", ALONE)
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(6)
    ]
    assert [process.wait(60) for process in crowd] == [0] * 6
