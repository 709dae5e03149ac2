"""Which parts of the package may import which, and that each decision is taken in one file."""

import ast
from pathlib import Path

import pytest

import rio_terrascope

PACKAGE = Path(rio_terrascope.__file__).parent

# From the bottom up: a file or folder imports from lower rows, and from its own row if that makes no circle.
ROWS = (
    ("errors", "certificates", "private_files", "secret", "sandbox", "threads"),
    ("settings",),
    ("http", "gdal"),
    ("auth", "stac"),
    ("opening", "registry", "session", "programs"),
    ("env",),
    ("notebooks",),
    ("reading", "distributed", "doctor"),
    ("worldcover",),
    ("analysis", "__init__"),
    ("cli",),
)
ROW_OF = {part: number for number, row in enumerate(ROWS) for part in row}

FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts): file for file in FILES}
MODULES = {name.removesuffix(".__init__"): file for name, file in MODULES.items()}


def part_of(module):
    """Return the file or folder at the top of the package that a module belongs to."""
    return f"{module}.__init__".split(".")[1]


def imports(module):
    """Return the modules of the package that a module imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = "rio_terrascope.sandbox" if node.level else ""  # the sandbox's imports are relative
            source = ".".join(filter(None, [package, node.module]))
            names = [
                submodule if (submodule := f"{source}.{alias.name}") in MODULES else source
                for alias in node.names
            ]
        else:
            continue
        found.update(name for name in names if name in MODULES)
    return found - {module}


def test_every_part_has_its_row():
    assert {part_of(module) for module in MODULES} == set(ROW_OF)


@pytest.mark.parametrize("module", MODULES)
def test_no_import_points_upwards(module):
    for other in imports(module):
        if part_of(other) != part_of(module):
            assert ROW_OF[part_of(other)] <= ROW_OF[part_of(module)], f"{module} imports {other}"


def test_no_files_import_each_other_in_a_circle():
    graph = {module: imports(module) for module in MODULES}
    done = set()

    def visit(module, path):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in graph[module]:
                visit(other, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_the_sandbox_shares_no_code_with_the_client():
    for module in MODULES:
        if part_of(module) == "sandbox":
            assert {part_of(other) for other in imports(module)} <= {"sandbox"}


def test_only_the_commands_import_click_and_nothing_imports_affine():
    for module, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            libraries = {name.partition(".")[0] for name in names}
            assert "affine" not in libraries, f"{module}: rasterio re-exports it"
            assert "click" not in libraries or part_of(module) == "cli", module


def test_no_two_test_files_have_one_name():
    names = [file.name for file in Path(__file__).parent.rglob("test_*.py")]
    assert len(names) == len(set(names)) > 50


def test_few_files_at_the_top():
    assert len(list(PACKAGE.glob("*.py"))) <= 16


@pytest.mark.parametrize(
    ("text", "home"),
    [
        ("Next: ", "errors.py"),  # the line that says what to do next is put together there
        ("requests.Session)", "http.py"),
        ("PATH_OPTIONS.items()", "gdal/options.py"),  # whose value of an option wins
        ("response code", "gdal/messages.py"),
        ("CURL error", "gdal/messages.py"),
        ("ead failed", "gdal/messages.py"),
        ("not recognized as", "gdal/messages.py"),
    ],
)
def test_one_thing_has_one_place(text, home):
    assert [str(file.relative_to(PACKAGE)) for file in FILES if text in file.read_text("utf-8")] == [home]


def test_only_one_module_makes_requests_sessions():
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in (
                "requests.Session",
                "requests.session",
            ):
                assert file.name == "http.py", f"{file}:{node.lineno}"
