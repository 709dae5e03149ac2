"""Look for secrets everywhere, with everything logged: ``python tests/sweep.py``.

Runs the tests of all faults in a new process, with this file as a pytest plugin, logging at DEBUG and
CPL_DEBUG=ON. Searches for access tokens, refresh tokens and passwords in everything that they show or leave
behind: stdout, stderr, the log, every exception of the package with its chain, reprs and pickles of its
objects, the command lines and environments of all processes, files, and the requests to other hosts.
Prints how much was searched, and exits with 1 if a secret was found.
"""

import contextlib
import gc
import os
import pickle
import re
import stat
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SCENARIOS = [
    TESTS / "faults",
    TESTS / "env" / "test_recovery.py",
    TESTS / "test_secrets.py",
    TESTS / "test_tracebacks.py",
    TESTS / "env" / "test_leaving.py",
    TESTS / "cli" / "test_terminal.py",
]

# The sandbox's access and refresh tokens are JWTs (RFC 7519), as Keycloak's are; the passwords are those
# of the tests.
SECRET = re.compile(
    rb"eyJ[\w-]{8,}\.[\w-]+|sandbox-refresh-[\w-]+|sandbox-password|other-password|wr0ng-s3cret"
)

FOUND = "TERRASCOPE_SWEEP_FOUND"  # names the file to which the plugin writes its findings


def secrets_in(data: bytes | str) -> bool:
    return SECRET.search(data.encode(errors="replace") if isinstance(data, str) else data) is not None


# Inside the process: a pytest plugin


class Inside:
    """Checks the exceptions and objects, which only the process itself can see."""

    def __init__(self, found: Path) -> None:
        self.found = found
        self.seen: Counter[str] = Counter()
        if sys.version_info >= (3, 12):
            sys.monitoring.use_tool_id(sys.monitoring.DEBUGGER_ID, "sweep")
            sys.monitoring.register_callback(
                sys.monitoring.DEBUGGER_ID, sys.monitoring.events.RAISE, self.raised
            )
            sys.monitoring.set_events(sys.monitoring.DEBUGGER_ID, sys.monitoring.events.RAISE)

    def raised(self, code, offset, error) -> None:
        if not type(error).__module__.startswith("rio_terrascope"):
            return
        self.seen["exceptions"] += 1
        while error is not None:
            # exceptions of requests hold the request, with the password
            if secrets_in(f"{error} {error!r} {error.args!r} {vars(error)!r}") or hasattr(error, "request"):
                self.report(f"the exception {type(error).__name__} raised in {code.co_qualname}")
            error = error.__cause__ or error.__context__

    def report(self, what: str) -> None:
        with self.found.open("a") as file:
            file.write(f"{what}\n")

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_call(self, item) -> None:
        self.look_at_objects(item.name)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item) -> None:
        self.look_at_objects(item.name)

    def look_at_objects(self, where: str) -> None:
        """Check the repr and the pickle of all existing objects of the package."""
        for thing in gc.get_objects():
            module = str(getattr(type(thing), "__module__", ""))
            if not module.startswith("rio_terrascope") or module.startswith("rio_terrascope.sandbox"):
                continue
            self.seen["reprs"] += 1
            if secrets_in(repr(thing)):
                self.report(f"the repr of a {type(thing).__name__} in {where}")
            # these are pickled on purpose only
            if type(thing).__name__ in ("Token", "SecretText", "SealedToken") or type(
                thing
            ).__name__.startswith("_"):
                continue  # private objects are not handed to users
            with contextlib.suppress(Exception):
                pickled = pickle.dumps(thing)
                self.seen["pickles"] += 1
                if secrets_in(pickled):
                    self.report(f"the pickle of a {type(thing).__name__} in {where}")

    def pytest_terminal_summary(self, terminalreporter) -> None:
        for what, count in self.seen.items():
            terminalreporter.write_line(f"swept {count} {what}")


def pytest_configure(config) -> None:
    config.pluginmanager.register(Inside(Path(os.environ[FOUND])))


def pytest_sessionstart() -> None:
    """Make every sandbox report, before it stops, whether another host received a token."""
    from rio_terrascope.sandbox import Sandbox

    stop = Sandbox.stop

    def stop_and_tell(self) -> None:
        with contextlib.suppress(Exception):  # it has ended already
            for request in self.requests("other"):
                if request.authorization != "none":
                    with open(os.environ[FOUND], "a") as file:
                        file.write(f"another host received a token: {request.path}\n")
        stop(self)

    Sandbox.stop = stop_and_tell


# Outside the process


class Processes(threading.Thread):
    """Checks the command lines and environments of all processes until stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self.found: set[str] = set()
        self.looks = 0
        self.pids: set[str] = set()

    def run(self) -> None:
        while not self.stopped.wait(0.05):
            for folder in Path("/proc").iterdir():
                if not folder.name.isdigit() or folder.name == str(os.getpid()):
                    continue
                with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
                    self.look(folder)

    def look(self, folder: Path) -> None:
        self.looks += 1
        arguments = (folder / "cmdline").read_bytes()
        if secrets_in(arguments):
            self.found.add(f"a command line: {SECRET.sub(b'***', arguments)[:200]!r}")
        for variable in (folder / "environ").read_bytes().split(b"\0"):
            name, _, value = variable.partition(b"=")
            # the variable in which users pass the password themselves
            if secrets_in(value) and name != b"TERRASCOPE_PASSWORD":
                self.found.add(f"the environment variable {name.decode()}")
        self.pids.add(folder.name)


def files_with_secrets(folder: Path) -> list[str]:
    """Return the files with a secret that other users can read. Private files may hold one."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            open_to_others = stat.S_IMODE(path.stat().st_mode) & 0o077
            if (open_to_others or "header" in str(path)) and secrets_in(path.read_bytes()):
                found.append(str(path.relative_to(folder)))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="terrascope-sweep-") as name:
        folder = Path(name)
        report, temporary = folder / "found", folder / "tmp"
        report.touch()
        temporary.mkdir()
        before = os.umask(0)  # private files must be private without the help of a umask
        environ = os.environ | {
            "CPL_DEBUG": "ON",
            "TMPDIR": str(temporary),
            "PYTHONPATH": str(TESTS),
            FOUND: str(report),
        }
        options = ["-n", "0", "-p", "sweep", "-p", "no:cacheprovider", "-s", "-v", "--log-level=DEBUG"]
        options += [
            f"--log-file={folder / 'log'}",
            "--log-file-level=DEBUG",
            f"--basetemp={temporary / 'base'}",
        ]
        watching = Processes()
        watching.start()
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *options, *map(str, SCENARIOS)],
                cwd=TESTS.parent,
                env=environ,
                stdout=out,
                stderr=err,
                check=False,
            )
        watching.stopped.set()
        watching.join()
        os.umask(before)
        found = report.read_text().splitlines() + sorted(watching.found)
        sizes = {}
        for stream in ("stdout", "stderr", "log"):
            text = (folder / stream).read_bytes()
            sizes[stream] = len(text)
            found += [
                f"{stream}: {SECRET.sub(b'***', line)[:200]!r}"
                for line in text.splitlines()
                if secrets_in(line)
            ]
        found += [f"the file {path}" for path in files_with_secrets(temporary)]
        summary = (folder / "stdout").read_text(errors="replace").splitlines()
    print("\n".join(line for line in summary if line.startswith("swept ")))
    print(", ".join(f"{size // 1024:,} KB of {stream}" for stream, size in sizes.items()))
    print(f"{len(watching.pids)} processes, {watching.looks:,} looks")
    print(summary[-1])
    if done.returncode:
        print(*(line for line in summary if line.startswith(("E  ", "FAILED", "ERROR"))), sep="\n")
    print(f"secrets found: {len(found)}", *sorted(set(found)), sep="\n  ")
    sys.exit(bool(found) or done.returncode)


if __name__ == "__main__":
    main()
