"""Print README's tables of faults from the marks on the tests: python tests/faults/table.py."""

import contextlib
import io
import itertools
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
# the headings of the tables, and the files with their tests
PLACES = {
    "at the login service": ("test_token_endpoint.py", "test_lifetimes.py"),
    "at the data server": ("test_data_server.py", "test_redirects.py"),
    "under the bulk functions": ("test_bulk.py",),
    "in the process": (
        "test_own_process.py",
        "test_processes.py",
        "test_threads.py",
        "test_leaving.py",
        "test_gil.py",
        "test_header.py",
        "test_guards.py",
        "test_interrupts.py",
        "test_saved_login.py",
        "test_tracebacks.py",
        "test_terminal.py",
        "test_plugin.py",
    ),
    "in files and items": ("test_output.py", "test_outputs.py", "test_search.py"),
}


class Collector:
    """A pytest plugin that collects the marks, in the order of the tests."""

    def __init__(self):
        self.rows = {place: [] for place in PLACES}

    def pytest_collection_modifyitems(self, items):
        for item in items:
            marker = item.get_closest_marker("fault")
            if marker is None:
                continue
            (place,) = (place for place, files in PLACES.items() if item.path.name in files)
            row = (*marker.args, marker.kwargs["sees"], marker.kwargs["requests"])
            if row not in self.rows[place]:
                self.rows[place].append(row)


def rows():
    """Collect the rows by heading: what goes wrong, what the user sees, and how many requests it costs."""
    collector = Collector()
    files = [file for names in PLACES.values() for name in names for file in TESTS.rglob(name)]
    arguments = ["--collect-only", "-q", "-p", "no:cacheprovider", *map(str, files)]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main(arguments, plugins=[collector])
    if code != pytest.ExitCode.OK:
        raise SystemExit(said.getvalue())
    return collector.rows


def table():
    """Return a summary and the tables in Markdown. Consecutive faults with the same outcome share a line."""
    lines = []
    places = rows()
    every = [row for found in places.values() for row in found]
    wrong = [what for what, sees, _ in every if "WRONG" in sees]
    lines.append(
        f"{len(every)} faults, of which {len(every) - len(wrong)} end in right pixels, an error, a warning "
        f"or a clean end; the others: {'; '.join(wrong)}."
    )
    lines.append("")
    for place, found in places.items():
        lines += [f"| {place} | what you see | requests |", "| --- | --- | --- |"]
        for (sees, requests), alike in itertools.groupby(found, key=lambda row: row[1:]):
            lines.append(f"| {'; '.join(what for what, _, _ in alike)} | {sees} | {requests} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
