"""Compare this package with its alternatives: ``python tests/benchmarks/run.py``.

Writes tables and a plot beside this file, and judges the targets; see README.md there. Needs nginx and the
`bench` extra. ``--quick`` reads little, once: it shows that all works, and judges no time.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import report
import targets
from contenders import CONTENDERS
from delay import PROFILES, DelayProxy
from server import LIMIT, SERVERS, TOKEN, Server, serve
from tiles import CORNERS, cache_folder, small_file, stored_size, tile
from workloads import BIG, FILES, GRID, MOSAIC, REAL, SERIES, Workload, growth, workloads

HERE = Path(__file__).parent
ENOUGH = 10  # seconds; a slower contender is not run again
TIMEOUT = 300  # seconds
PAIRS = 15  # of warm reads


def main() -> None:
    options = _options()
    everything = True
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="terrascope-benchmark-")))
        files = _files(options)
        server = stack.enter_context(serve(files, folder))
        for name in SERVERS if options.quick else [options.server]:
            results = _measure(name, server, files, options)
            met, text = targets.report(results)
            print(f"\n{text}", flush=True)
            everything &= met
            kind = "whole" if options.whole else "partial"
            (cache_folder() / f"{kind}-{options.profile}-{name}.json").write_text(json.dumps(results))
            if options.whole:
                report.write(results, text, Path(options.output))
    if not (everything or options.no_targets):
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=[*PROFILES][:3], default="home", help="the link, default home")
    parser.add_argument("--server", choices=SERVERS, default="http2", help="default http2")
    parser.add_argument("--only", nargs="*", help="workloads by name; 'growth' for all of that table")
    parser.add_argument("--only-contender", nargs="*", help="contenders by name")
    parser.add_argument("--repeat", type=int, default=5, help="default 5")
    parser.add_argument("--quick", action="store_true", help="little data, once, all servers")
    parser.add_argument("--no-targets", action="store_true", help="exit 0 even if a target is not met")
    parser.add_argument("--output", default=HERE, help="folder for README.md and results.png")
    options = parser.parse_args()
    options.whole = not (options.quick or options.only)
    return options


def _files(options: argparse.Namespace) -> dict[str, Path]:
    """Return the files by URL path: the big tile, its copies elsewhere, ESA's tile, and small files."""
    big = tile("N00E006", options.quick)
    small = 4 if options.quick else 100
    files = {BIG: big, **dict.fromkeys(FILES, big)}
    files |= {MOSAIC[corner]: tile(name, options.quick) for name, corner in CORNERS.items()}
    files |= {path: small_file(number % small) for number, path in enumerate(GRID)}
    files |= {path: small_file(number % 4) for number, path in enumerate(SERIES)}
    esa = Path(os.environ.get("TERRASCOPE_TEST_TILES", "")) / "ESA_WorldCover_10m_2020_v100_N00E006_Map.tif"
    return files | ({REAL: esa} if esa.is_file() else {})


def _plan(
    name: str, files: dict[str, Path], options: argparse.Namespace
) -> Iterator[tuple[Workload, list[str]]]:
    """Yield the workloads with their contenders. The quick form has each contender and each server once."""
    for workload in workloads(options.quick):
        if options.only and workload.name not in options.only:
            continue
        if any(path not in files for path, _ in workload.requests):
            continue  # ESA's tile is not here
        contenders = [each for each in CONTENDERS if each != targets.STATIC]
        if workload.kind == "warm":  # plain rasterio: the only workload where that is what is compared
            contenders = [targets.URLLIB3, targets.STATIC]
        elif options.quick and (workload.name, name) != ("windows", "http2"):
            contenders = [*targets.OURS] + ["async-geotiff + obstore"] * (name == "http2")
        if options.quick and name != "http2" and workload.name not in ("windows", "files"):
            continue
        yield workload, [each for each in contenders if each in (options.only_contender or contenders)]


def _measure(
    name: str, server: Server, files: dict[str, Path], options: argparse.Namespace
) -> dict[str, Any]:
    """Run all on a server."""
    results = {
        "profile": options.profile, "server": name, "quick": options.quick, "repeat": options.repeat,
        "nginx": server.version, "workloads": {}, "runs": {}, "growth": {},
    }  # fmt: skip
    limit = (LIMIT, server.ports["beyond"]) if name == "limited" else ()
    with (
        DelayProxy(server.ports[name], options.profile, *limit) as far,
        DelayProxy(server.ports[name], "loopback", *limit) as near,
    ):
        for workload, contenders in _plan(name, files, options):
            results["workloads"][workload.name] = _facts(workload, files)
            runs = results["runs"][workload.name] = {each: [] for each in contenders}
            warm = workload.kind == "warm"
            for _ in range(1 if options.quick else PAIRS if warm else options.repeat):
                for contender, done in runs.items():  # in turn, so that a slow minute affects all
                    if done and (done[0]["failure"] or done[0]["seconds"] > ENOUGH):
                        continue
                    done.append(_once(workload, contender, server, near if warm else far, options))
            _check_pixels(workload, runs)
            for contender, done in runs.items():
                print(f"{workload.title:36} {contender:30} {_line(done)}", flush=True)
        whole = options.whole and not options.only_contender and (options.profile, name) == ("home", "http2")
        for workload in growth():
            if not whole and not {"growth", workload.name} & set(options.only or []):
                continue
            results["workloads"][workload.name] = _facts(workload, files)
            ours = [each for each in targets.OURS if each in (options.only_contender or targets.OURS)]
            found = {each: [_once(workload, each, server, far, options)] for each in ours}
            results["growth"][workload.name] = found
            for contender, done in found.items():
                print(f"{workload.title:36} {contender:30} {_line(done)}", flush=True)
    return results


def _facts(workload: Workload, files: dict[str, Path]) -> dict[str, Any]:
    """Return what a workload needs: its files, and its blocks and the bytes they take."""
    blocks = workload.blocks()
    return {
        "title": workload.title,
        "files": len(blocks),
        "blocks": sum(map(len, blocks.values())),
        "bytes": sum(stored_size(files[path], workload.level, some) for path, some in blocks.items()),
    }


def _once(
    workload: Workload, contender: str, server: Server, proxy: DelayProxy, options: argparse.Namespace
) -> dict[str, Any]:
    origin = f"https://127.0.0.1:{proxy.port}"
    arguments = {
        "workload": workload.name, "contender": contender, "origin": origin,
        "token": TOKEN, "quick": options.quick,
    }  # fmt: skip
    found = {"failure": None}
    try:
        done = subprocess.run(
            [sys.executable, HERE / "once.py"],
            input=json.dumps(arguments),  # not as an argument: it holds a token
            env=os.environ | server.environ | {"TERRASCOPE_ORIGINS": origin},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        if done.returncode:
            found["failure"] = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        else:
            found |= json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        found["failure"] = f"more than {TIMEOUT} s"
    connections = proxy.counts()["connections"]  # first: it waits until all are closed
    return found | server.counts() | {"connections": connections}


def _check_pixels(workload: Workload, runs: dict[str, list[dict[str, Any]]]) -> None:
    found = {name: {run["pixels"] for run in done if not run["failure"]} for name, done in runs.items()}
    if len(set().union(*found.values())) > 1:
        raise SystemExit(f"{workload.title}: the pixels differ: {found}")


def _line(runs: list[dict[str, Any]]) -> str:
    run = targets.middle(runs)
    if run is None:
        return "fails: " + next(run["failure"] for run in runs if run["failure"])
    return (
        f"{run['seconds']:7.3f} s {run['requests']:5} requests {run['refused']:3} refused "
        f"{run['connections']:4} connections {run['bytes'] / 1e6:7.2f} MB, "
        f"memory {run['memory']:.0f} MB, CPU {run['cpu']:.2f} s"
    )


if __name__ == "__main__":
    main()
