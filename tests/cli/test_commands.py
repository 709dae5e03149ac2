"""A command is one file and one line in cli/__init__.py, and imports no other command."""

import ast
from pathlib import Path

from rio_terrascope import cli

FOLDER = Path(cli.__file__).parent
SHARED = {"access", "errors", "group", "inputs", "options", "output", "signals"}


def imported_from_cli(path):
    """The modules of cli that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {name.split(".")[2] for name in names if name.startswith("rio_terrascope.cli.")}
    return found


FILES = {path.stem: path for path in FOLDER.glob("*.py") if path.stem != "__init__"}


def test_no_command_imports_another_and_nothing_shared_imports_a_command():
    assert {"read", "search", "stats"} <= FILES.keys() - SHARED  # so that the walk has found them
    for name, path in FILES.items():
        assert imported_from_cli(path) & FILES.keys() <= SHARED, name


def test_every_command_file_has_its_line():
    assert imported_from_cli(FOLDER / "__init__.py") & FILES.keys() == FILES.keys() - SHARED | {"group"}
    for name in FILES.keys() - SHARED:
        commands = [
            each for each in cli.terrascope.commands.values() if each.callback.__module__.endswith(f".{name}")
        ]
        assert commands, name
