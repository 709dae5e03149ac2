"""Compare this package with its alternatives: ``python tests/benchmarks/run.py``.

Prints a Markdown table, and writes it and a plot beside this file. Needs the `bench` extra, and uses nginx if
it is installed. ``--quick`` reads little, once: it shows that the benchmark works, and measures nothing.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import report
from contenders import CONTENDERS
from delay import DelayProxy
from report import Cell
from server import Server, serve
from tiles import CORNERS, cache_folder, tile
from workloads import BIG, FILES, REAL, Workload, growth, workloads

from rio_terrascope.worldcover import Tile

HERE = Path(__file__).parent
ENOUGH = 20  # seconds; a slower contender is not run again


def main() -> None:
    options = _options()
    chosen = [w for w in workloads(options.quick) if not options.only or w.name in options.only]
    cells: dict[tuple[str, str], list[Cell]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="terrascope-benchmark-")))
        server = stack.enter_context(serve(_files(options.quick), folder))
        near, far = (
            stack.enter_context(DelayProxy(server.port, d)) for d in (0.0, options.round_trip / 1000)
        )
        for workload in chosen:
            contenders = [
                name for name in _contenders(workload) if not options.contenders or name in options.contenders
            ]
            for _ in range(options.repetitions):
                for contender in contenders:  # in turn, so that a slow minute affects all
                    done = cells.get((workload.name, contender), [])
                    if done and done[0].seconds > ENOUGH:
                        continue
                    cell = _once(workload, contender, server, far if workload.delayed else near, options)
                    cells.setdefault((workload.name, contender), []).append(cell)
            _check_pixels(workload, contenders, cells)
            for contender in contenders:
                cell = _middle(cells[workload.name, contender])
                print(f"{workload.title:36} {contender:30} {cell}", flush=True)
        name = server.name
        grown = []
        if not options.only and not options.contenders:
            grown = [(w, _once(w, report.OURS, server, far, options)) for w in growth(options.quick)]
    medians = {key: _middle(several) for key, several in cells.items()}
    text = report.table(chosen, list(CONTENDERS), medians, name, options) + report.growth_table(grown)
    print(f"\n{text}")
    if not options.only and not options.contenders:
        target = Path(options.output)
        (target / "results.md").write_text(text)
        report.plot(chosen, list(CONTENDERS), medians, target / "results.png")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="little data, one repetition")
    parser.add_argument("--repetitions", type=int, help="default 5, quick 1")
    parser.add_argument("--round-trip", type=float, default=40.0, help="in ms, default 40")
    parser.add_argument("--only", nargs="*", help="workloads by name")
    parser.add_argument("--contenders", nargs="*", help="contenders by name")
    parser.add_argument("--output", help="folder for results.md and results.png")
    options = parser.parse_args()
    options.repetitions = options.repetitions or (1 if options.quick else 5)
    options.output = options.output or (cache_folder() if options.quick else HERE)
    return options


def _files(quick: bool) -> dict[str, Path]:
    """Return the files by URL path: the big tile under many names, its copies, and ESA's tile."""
    big = tile("N00E006", quick)
    files = {BIG: big, **dict.fromkeys(FILES, big)}
    for name, (west, north) in CORNERS.items():
        files[Tile(2020, west, north - 3, "").url] = tile(name, quick)
    esa = Path(os.environ.get("TERRASCOPE_TEST_TILES", "")) / "ESA_WorldCover_10m_2020_v100_N00E006_Map.tif"
    files[REAL] = esa if esa.is_file() else big
    return files


def _contenders(workload: Workload) -> list[str]:
    if workload.kind == "warm":  # sequential reads of one dataset: the options make no difference
        return ["rio-terrascope", "static header"]
    return [name for name in CONTENDERS if name != "static header"]


def _once(
    workload: Workload, contender: str, server: Server, proxy: DelayProxy, options: argparse.Namespace
) -> Cell:
    origin = f"{server.scheme}://127.0.0.1:{proxy.port}"
    arguments = {
        "workload": workload.name, "contender": contender, "origin": origin,
        "token": server.token, "quick": options.quick,
    }  # fmt: skip
    environ = os.environ | server.environ | {"TERRASCOPE_ORIGINS": origin}
    server.requests(), proxy.counts()
    result = subprocess.run(
        [sys.executable, HERE / "once.py"],
        input=json.dumps(arguments),  # not as an argument: it holds a token
        env=environ,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise SystemExit(f"{contender}, {workload.title}: exit {result.returncode}\n{result.stderr}")
    answer = json.loads(result.stdout)
    counts = proxy.counts()
    return Cell(
        seconds=answer["seconds"],
        requests=server.requests(),
        connections=counts["connections"],
        megabytes=counts["bytes"] / 1e6,
        memory=answer["memory"],
        pixels=answer["pixels"],
    )


def _middle(several: list[Cell]) -> Cell:
    """Return the run with the median time, with its counts."""
    middle = median(cell.seconds for cell in several)
    return min(several, key=lambda cell: abs(cell.seconds - middle))


def _check_pixels(
    workload: Workload, contenders: list[str], cells: dict[tuple[str, str], list[Cell]]
) -> None:
    hashes = {name: {cell.pixels for cell in cells[workload.name, name]} for name in contenders}
    if len(set.union(*hashes.values())) > 1:
        raise SystemExit(f"{workload.title}: the pixels differ: {hashes}")


if __name__ == "__main__":
    main()
