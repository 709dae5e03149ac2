"""What the benchmark has to reach: ``python tests/benchmarks/targets.py RESULTS.json`` judges a run."""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from delay import PROFILES

URLLIB3, HTTP2, STATIC = "rio-terrascope", "rio-terrascope[http2]", "static header"
OURS = (URLLIB3, HTTP2)
SINGLE = ("window", "overview")
SEVERAL = ("windows", "points-few", "points-many", "files", "mosaic")
BULK = (*SEVERAL, "window-large", "series", "polygons")
ROUND_TRIPS = 4  # TCP, TLS, header, data
HEADER = 40_000  # bytes a file


@dataclass(frozen=True)
class Target:
    """The most that a measure may be, for each of some contenders on each of some workloads.

    `profiles` limits it to some links and `servers` to some servers; in the quick form only what is not of
    seconds is judged.
    """

    measure: str
    at_most: float
    workloads: tuple[str, ...]
    contenders: tuple[str, ...] = OURS
    profiles: tuple[str, ...] = tuple(PROFILES)
    servers: tuple[str, ...] = ("http2",)


TARGETS = (
    Target("ratio", 1.0, SINGLE, profiles=("home",)),
    Target("ratio", 1.05, SINGLE, profiles=("delay",)),
    Target("connections", 1, SINGLE),
    Target("ratio", 1.05, SEVERAL, (URLLIB3,), ("home",)),
    Target("ratio", 1.3, SEVERAL, (URLLIB3,), ("campus",)),
    Target("ratio", 1.05, SEVERAL, (HTTP2,), ("home",)),
    Target("ratio", 1.1, SEVERAL, (HTTP2,), ("campus", "delay")),
    Target("ratio", 1.0, ("series",), profiles=("home",)),
    Target("connections", 16, BULK, (URLLIB3,), servers=("http2", "http1")),
    Target("connections", 16, BULK, (HTTP2,), servers=("http1",)),
    Target("connections", 1, BULK, (HTTP2,)),
    Target("bytes", 1.0, (*SINGLE, *BULK), servers=("http2", "http1")),
    Target("requests", 1.0, (*SINGLE, *BULK), servers=("http2", "http1")),
    Target("limit", 1.2, BULK, profiles=("home",)),
    Target("static requests", 0, ("warm",), (URLLIB3,)),
    Target("static CPU", 1.05, ("warm",), (URLLIB3,)),
    Target("memory", 400, ("points-files",)),
    Target("memory", 300, ("copy",)),
    Target("answered", 0, (*SINGLE, *BULK), servers=("http1", "limited")),
)
TIMED = ("ratio", "limit", "static CPU")
MEANING = {
    "ratio": "times the seconds of the fastest peer",
    "connections": "connections",
    "bytes": f"times the bytes of the blocks + {HEADER // 1000} KB a file",
    "requests": "times as many requests as blocks + 2 a file",
    "limit": f"times the limit: bytes of the blocks / bandwidth + {ROUND_TRIPS} round trips",
    "static requests": "requests more than with a static header",
    "static CPU": "times the CPU seconds of a static header, median of the pairs",
    "memory": "MB at the peak",
    "answered": "failed runs",
}


def limit(results: dict[str, Any], workload: str) -> float:
    """Return the seconds that the blocks of a workload take at least."""
    profile = PROFILES[results["profile"]]
    return results["workloads"][workload]["bytes"] / profile.bandwidth + ROUND_TRIPS * profile.round_trip


def middle(runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the run with the median time; None if one failed."""
    if not runs or any(run["failure"] for run in runs):
        return None
    seconds = median(run["seconds"] for run in runs)
    return min(runs, key=lambda run: abs(run["seconds"] - seconds))


def judge(results: dict[str, Any]) -> Iterator[tuple[bool, str]]:
    """Yield for each target that applies, and each contender, whether it is met, and a line about it."""
    measured = results["runs"] | results["growth"]
    for target in TARGETS:
        if results["profile"] not in target.profiles or results["server"] not in target.servers:
            continue
        if results["quick"] and target.measure in TIMED:
            continue
        for contender in target.contenders:
            values = []
            for workload in target.workloads:
                if contender in measured.get(workload, {}):
                    value = _measured(results, target.measure, workload, measured[workload], contender)
                    title = results["workloads"][workload]["title"]
                    values.append((value <= target.at_most, f"{value:.3g} {title}"))
            if values:
                said = ", ".join(text if met else f"{text} (NOT MET)" for met, text in values)
                yield (
                    all(met for met, _ in values),
                    f"{contender}: at most {target.at_most:g} {MEANING[target.measure]}: {said}",
                )


def _measured(
    results: dict[str, Any], measure: str, workload: str, others: dict[str, Any], contender: str
) -> float:
    """Return the value of a measure, infinite if a run failed."""
    facts, runs = results["workloads"][workload], others[contender]
    if measure == "answered":
        return sum(bool(run["failure"]) for run in runs)
    run = middle(runs)
    if run is None:
        return math.inf
    if measure == "ratio":
        peers = [middle(done) for name, done in others.items() if name not in OURS]
        return run["seconds"] / min((peer["seconds"] for peer in peers if peer), default=math.inf)
    if measure == "limit":
        return run["seconds"] / limit(results, workload)
    if measure in ("connections", "memory"):
        return max(each[measure] for each in runs)
    if measure == "bytes":
        return max(each["bytes"] for each in runs) / (facts["bytes"] + HEADER * facts["files"])
    if measure == "requests":
        return max(each["requests"] for each in runs) / (facts["blocks"] + 2 * facts["files"])
    pairs = list(zip(runs, others.get(STATIC, []), strict=False))
    if measure == "static requests":
        return max((ours["requests"] - static["requests"] for ours, static in pairs), default=0)
    return median([ours["cpu"] / static["cpu"] for ours, static in pairs] or [0])


def report(results: dict[str, Any]) -> tuple[bool, str]:
    """Return whether all targets are met, and a line for each."""
    lines = list(judge(results))
    text = "\n".join(f"{'met' if met else 'NOT MET':8} {text}" for met, text in lines)
    return all(met for met, _ in lines), text


if __name__ == "__main__":
    met, text = report(json.loads(Path(sys.argv[1]).read_text()))
    print(text)
    sys.exit(not met)
