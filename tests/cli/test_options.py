"""Options and arguments: each mistake is one line and exit code 2, before any request or question."""

import json
import socket
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from helpers import RIO, TSREAD
from rio_terrascope.cli import terrascope

COMMANDS = terrascope.commands.items()
ANY_FLOAT = {("read", "nodata")}  # NaN is a usual nodata value


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No login, no question, no request; the folder stays empty."""

    def unwanted(*_args, **_options):
        pytest.fail("a mistake in the options must be found before this")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, unwanted)
    monkeypatch.setattr(socket.socket, "connect", unwanted)
    monkeypatch.setattr("rio_terrascope.cli.access.token_source", unwanted)
    monkeypatch.setattr("rio_terrascope.auth.credentials.find_credentials", unwanted)
    monkeypatch.setattr("rio_terrascope.sandbox.Sandbox.__enter__", unwanted)
    monkeypatch.setattr("click.prompt", unwanted)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert list(folder.iterdir()) == []


def mistake(*arguments):
    """Run a command that must end with exit code 2 and one line, and return the line."""
    result = CliRunner().invoke(terrascope, [str(argument) for argument in arguments], prog_name="tsread")
    assert (result.exit_code, result.stdout) == (2, ""), (arguments, result.output)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("Error: ")
    assert lines[0].endswith(f"See 'tsread {arguments[0]} --help'.")
    return lines[0]


def types_of(param):
    """The type of each value that a parameter takes."""
    return param.type.types if isinstance(param.type, click.Tuple) else [param.type] * max(1, param.nargs)


def plausible(param):
    """Values that a parameter takes; four numbers are a box."""
    return [_plausible(kind, position) for position, kind in enumerate(types_of(param), start=1)]


def _plausible(kind, position):
    if isinstance(kind, click.Choice):
        return kind.choices[0]
    if isinstance(kind, click.Path):
        return __file__ if kind.exists else "out"
    return str(position) if isinstance(kind, click.types.FloatParamType | click.types.IntParamType) else "x"


def given(param, values):
    return [param.opts[-1], *values] if isinstance(param, click.Option) else list(values)


def line_for(name, *, without=None):
    """All that a command requires, with options before arguments."""
    required = [
        param for param in terrascope.commands[name].params if param.required and param is not without
    ]
    required.sort(key=lambda param: isinstance(param, click.Argument))
    return [word for param in required for word in given(param, plausible(param))]


def wrong_values(name, param):
    """Values that a parameter must refuse, by their types."""
    for position, kind in enumerate(types_of(param)):
        wrong = []
        if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
            wrong.append("many")
        if isinstance(kind, click.types.FloatParamType) and (name, param.name) not in ANY_FLOAT:
            wrong += ["nan", "inf", "-inf"]
        if isinstance(kind, click.IntRange | click.FloatRange):
            wrong += [edge - 1 for edge in [kind.min] if edge is not None]
            wrong += [edge + 1 for edge in [kind.max] if edge is not None]
            wrong += [kind.min] if kind.min_open else []
        if isinstance(kind, click.Choice):
            wrong.append("none of them")
        if isinstance(kind, click.Path) and kind.exists:
            wrong.append("no/such/file")
        if isinstance(kind, click.Path) and not kind.dir_okay:
            wrong.append(".")
        values = plausible(param)
        for value in wrong:
            yield [*values[:position], str(value), *values[position + 1 :]]


REQUIRED = [(name, param) for name, command in COMMANDS for param in command.params if param.required]
WRONG = [
    (name, param, values)
    for name, command in COMMANDS
    for param in command.params
    for values in wrong_values(name, param)
]


def label(value):
    return value.name if isinstance(value, click.Parameter) else None


def test_the_walk_finds_what_there_is():
    """If the walk found nothing, all tests below would pass."""
    found = {(name, param.name) for name, param in REQUIRED}
    assert found >= {("preview", "output"), ("preview", "url"), ("worldcover", "bbox"), ("exec", "command")}
    found = {(name, param.name) for name, param, _ in WRONG}
    assert found >= {("read", "window"), ("stats", "bbox"), ("worldcover", "year"), ("sandbox", "tiles")}
    assert {name for name, _ in COMMANDS if not takes_more(name)} >= {"info", "status", "search"}


@pytest.mark.parametrize(("name", "param"), REQUIRED, ids=label)
def test_a_required_one_left_out(name, param):
    line = mistake(name, *line_for(name, without=param))
    ctx = click.Context(terrascope.commands[name])
    # click fills the last argument first, so that it reports another one as missing
    alike = [param] if isinstance(param, click.Option) else arguments_of(name)
    assert any(f"Missing {param.param_type_name} {each.get_error_hint(ctx)}" in line for each in alike)


def arguments_of(name):
    return [param for param in terrascope.commands[name].params if isinstance(param, click.Argument)]


def takes_more(name):
    return any(argument.nargs == -1 for argument in arguments_of(name))


def test_what_is_missing_is_found_before_anything_heavy_is_imported():
    lines = [[name, *line_for(name, without=param)] for name, param in REQUIRED]
    code = (
        "import json, sys\n"
        "from click.testing import CliRunner\n"
        "from rio_terrascope.cli import terrascope\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    assert CliRunner().invoke(terrascope, line).exit_code == 2, line\n"
        "    print(line, [m for m in ('rasterio', 'numpy', 'requests') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(lines)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{line} []" for line in lines]


@pytest.mark.parametrize("name", [name for name, _ in COMMANDS])
def test_an_unknown_option(name):
    assert "No such option" in mistake(name, "--no-such-option", *line_for(name))


@pytest.mark.parametrize("name", [name for name, _ in COMMANDS if not takes_more(name)])
def test_an_argument_too_many(name):
    arguments = ["x" for argument in arguments_of(name) if not argument.required]
    assert "unexpected extra argument (one-more)." in mistake(name, *line_for(name), *arguments, "one-more")


@pytest.mark.parametrize(("name", "param", "values"), WRONG, ids=label)
def test_a_value_that_cannot_be(name, param, values):
    line = mistake(name, *given(param, values), *line_for(name, without=param))
    assert "Invalid value for" in line
    assert param.opts[-1] in line


@pytest.mark.parametrize(
    ("name", "param"),
    [(name, param) for name, command in COMMANDS for param in command.params if param.name == "output"],
    ids=label,
)
def test_there_is_no_overwriting_stdout(name, param):
    others = line_for(name, without=param)
    assert "--overwrite needs -o" in mistake(name, "--overwrite", "-o", "-", *others)
    said = "Missing option '-o'" if param.required else "--overwrite needs -o"
    assert said in mistake(name, "--overwrite", *others)


BOX = ("--bbox", 6, 0, 7, 1)
WINDOW = ("--window", 0, 0, 9, 9)
GEOMETRY = ("--geometry", __file__)
READ = ("read", "x", "-o", "out.tif")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*READ,), "Missing option '--bbox', '--window' or '--geometry'"),
        ((*READ, *BOX, *WINDOW), "give one of --bbox and --window, not 2"),
        ((*READ, *BOX, *GEOMETRY), "give one of --bbox and --geometry, not 2"),
        ((*READ, *WINDOW, *GEOMETRY), "give one of --window and --geometry, not 2"),
        ((*READ, *WINDOW, "--bbox-crs", "EPSG:4326"), "--bbox-crs needs --bbox"),
        ((*READ, *BOX, "--bbox-crs", "EPSG:99999"), "The EPSG code is unknown"),
        ((*READ, *BOX, "--bbox-crs", "EPSG:x"), "'EPSG:x' is not a CRS"),
        ((*READ, *BOX, "--bbox-crs", "[1]"), "'[1]' is not a CRS"),
        ((*READ, *BOX, "--all-touched"), "--all-touched needs --geometry"),
        ((*READ, *BOX, "--max-size", 9, "--resolution", 1), "--resolution or --max-size, not both"),
        ((*READ, "--window", 0, 0, 0, 9), "0 is not in the range"),
        ((*READ, "--window", 0, 0, 9, -1), "-1 is not in the range"),
        ((*READ, "--bbox", 7, 0, 6, 1), "at or beyond its east"),
        ((*READ, "--bbox", 6, 1, 7, 1), "at or above its north"),
        (("stats", "x", *BOX, *GEOMETRY), "give one of --bbox and --geometry, not 2"),
        (("stats", "x", "--all-touched"), "--all-touched needs --geometry"),
        (("stats", "x", "--bbox-crs", "EPSG:3857"), "--bbox-crs needs --bbox"),
        (("stats", "x", "--categorical", "-b", 1), "--band needs --continuous"),
        (("stats", "-", "x", "-"), "'-' is given twice"),
        (("preview", "x", "-o", "out.png", "--bbox-crs", "EPSG:3857"), "--bbox-crs needs --bbox"),
        (("preview", "x", "-o", "out.png", "-b", 1, "-b", 2), "one band, or three"),
        (("sample", "x"), "Missing argument 'URL...'"),
        (("sample", "x", "points.csv", "--crs", "nonsense"), "'nonsense' is not a CRS"),
        (("worldcover", *BOX), "Missing option '-o' / '--output', or '--list'"),
        (("worldcover", *BOX, "--list", "-o", "out.tif"), "--list or --output, not both"),
        (("worldcover", *BOX, "--list", "--overwrite"), "--overwrite needs -o"),
        (("worldcover", "--bbox", 6, 1, 7, 0, "--list"), "above its north"),
        (("worldcover", "--bbox", 6, 0, 6, 1, "--list"), "is empty"),
        (("worldcover", "--bbox", 6, 0, 190, 1, "-o", "out.tif"), "beyond 180 degrees"),
        (("search", "x", "--json", "--table"), "--table or --json, not both"),
        (("search", "x", "--json", "--asset", "NDVI"), "--asset cannot go with --json"),
        (("search", "x", "--bbox", 4, 51, 5, 50), "above its north"),
        (("search", "x", "--bbox", 4, 51, 5, 200), "beyond the poles"),
        (("search", "x", "--bbox", 170, 51, 190, 52), "beyond 180 degrees"),
        (("search", "x", "--datetime", "yesterday"), "'yesterday' cannot be read"),
        (("search", "x", "--datetime", "2021-02-30"), "'2021-02-30' cannot be read"),
        (("search", "x", "--datetime", "2021-06-14T25:00:00Z"), "cannot be read"),
        (("search", "x", "--datetime", "2022/2021"), "ends before it begins"),
        (("login",), "not a terminal"),
        (("login", "--password-stdin"), "--password-stdin needs --username"),
        (("login", "--password-stdin", "-u", "me"), "password is empty"),
        (("demo", "-o", "-"), "the picture needs a file"),
    ],
    ids=lambda value: " ".join(map(str, value)).replace(__file__, "FILE") if isinstance(value, tuple) else "",
)
def test_contradictions(arguments, said):
    assert said in mistake(*arguments)


def test_a_mistake_before_the_command_is_one_line_too():
    result = CliRunner().invoke(terrascope, ["--no-such-option", "info"], prog_name="tsread")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: No such option '--no-such-option'. See 'tsread --help'.\n"


def test_no_command_at_all_shows_the_help_on_stderr():
    result = CliRunner().invoke(terrascope, [], prog_name="tsread")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([TSREAD, "preview", "https://services.terrascope.be/x.tif"], "Missing option '-o' / '--output'"),
        ([RIO, "terrascope", "preview", "x"], "Missing option '-o' / '--output'"),
        ([TSREAD, "search", "x", "--datetime", "yesterday"], "'yesterday' cannot be read"),
        (
            [TSREAD, "read", "x", "-o", "out", "--bbox", "0", "0", "1", "1", "--bbox-crs", "+proj=x"],
            "not a CRS",
        ),
    ],
)
def test_as_installed(environ, command, said):
    # nothing listens there, so that a request would give another error
    environ |= {"TERRASCOPE_STAC_URL": "http://127.0.0.1:9", "TERRASCOPE_TOKEN_URL": "http://127.0.0.1:9"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, input="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


@pytest.mark.parametrize(
    ("name", "options"),
    [("read", "--window 0 0 9 9 --nodata nan -o no/out"), ("worldcover", "--bbox 170 0 -170 1 -o no/out")],
)
def test_what_is_unusual_and_right_goes_on(name, options):
    """Unusual but right options are accepted: the error is the missing folder."""
    url = ["x"] if name == "read" else []
    result = CliRunner().invoke(terrascope, [name, *url, *options.split()])
    assert result.exit_code == 1
    assert "cannot write to no" in result.stderr
