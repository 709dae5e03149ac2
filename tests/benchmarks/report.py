"""The measurements as tables and as a plot."""

import platform
import re
from pathlib import Path
from typing import Any

import rasterio
from contenders import CONTENDERS
from delay import PROFILES
from server import SERVERS
from targets import OURS, limit, middle


def write(results: dict[str, Any], judged: str, folder: Path) -> None:
    """Write a run's section of README.md in place of its previous one, and of `home` the plot."""
    line = ".".join(rasterio.__version__.split(".")[:2])
    title = f"## {results['profile']}, {SERVERS[results['server']]}, rasterio {line}"
    section = "\n\n".join(
        [title, _conditions(results), _table(results), *_growth(results), f"```\n{judged}\n```"]
    )
    file = folder / "README.md"
    text = file.read_text() if file.exists() else (Path(__file__).parent / "README.md").read_text()
    before, *sections = (each.strip() for each in re.split(r"(?m)^(?=## )", text))
    kept = [each for each in sections if each.partition("\n")[0] != title]
    file.write_text("\n\n".join([before, *sorted([*kept, section], key=_order)]) + "\n")
    if (results["profile"], results["server"]) == ("home", "http2"):
        _plot(results, folder / "results.png")


def _order(section: str) -> tuple[int, ...]:
    """Sort the sections of runs by link and server, after all other sections."""
    link, *server = section.partition("\n")[0].removeprefix("## ").split(", ")
    places = [list(PROFILES), list(SERVERS.values())]
    return tuple(
        place.index(word) if word in place else -1
        for place, word in zip(places, [link, *server], strict=False)
    )


def _conditions(results: dict[str, Any]) -> str:
    return (
        f"Median of {results['repeat']} alternating runs. {results['nginx']}, rasterio "
        f"{rasterio.__version__} (GDAL {rasterio.__gdal_version__}), Python {platform.python_version()}. "
        "A cell: seconds, then requests / connections / MB of bodies."
    )


def _rows(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _table(results: dict[str, Any]) -> str:
    shown = [name for name in CONTENDERS if any(name in runs for runs in results["runs"].values())]
    rows = []
    for workload, runs in results["runs"].items():
        facts = results["workloads"][workload]
        floor = "-" if workload == "warm" else f"{limit(results, workload):.2f}<br>{facts['bytes'] / 1e6:.1f}"
        cells = [_cell(runs.get(name, []), bold=name in OURS) for name in shown]
        rows.append([facts["title"], f"{facts['blocks']:,}", floor, *cells])
    return _rows(["workload", "blocks", "limit, MB", *shown], rows)


def _cell(runs: list[dict[str, Any]], *, bold: bool) -> str:
    run = middle(runs)
    if run is None:
        return "fails" if runs else "-"
    seconds = f"**{run['seconds']:.2f}**" if bold else f"{run['seconds']:.2f}"
    refused = f" ({run['refused']} refused)" if run["refused"] else ""
    return f"{seconds}<br>{run['requests']}{refused} / {run['connections']} / {run['bytes'] / 1e6:.1f}"


def _growth(results: dict[str, Any]) -> list[str]:
    """Return the table of how time and memory grow, where they were measured."""
    rows = []
    for workload, found in results["growth"].items():
        facts = results["workloads"][workload]
        for name, runs in found.items():
            run = middle(runs)
            values = ["fails"] * 6
            if run is not None:
                values = [f"{run['seconds']:.2f}", f"{run['requests']:,}", str(run["connections"])]
                values += [f"{run['bytes'] / 1e6:.1f}", f"{run['memory']:.0f}", f"{run['cpu']:.1f}"]
            rows.append([facts["title"], f"{facts['blocks']:,}", name, *values])
    header = [
        "work",
        "blocks",
        "",
        "seconds",
        "requests",
        "connections",
        "MB",
        "peak memory, MB",
        "CPU seconds",
    ]
    return [_rows(header, rows)] if rows else []


def _plot(results: dict[str, Any], path: Path) -> None:
    """Plot the seconds, with a panel for each workload."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    workloads = [name for name in results["runs"] if name not in ("warm", "window-real")]
    names = [name for name in CONTENDERS if any(name in results["runs"][each] for each in workloads)][::-1]
    colors = ["#0072b2" if name in OURS else "#e69f00" if "async" in name else "#aaaaaa" for name in names]
    rows = -(-len(workloads) // 2)
    figure, grid = pyplot.subplots(rows, 2, figsize=(11, 2.3 * rows), sharey=True, layout="constrained")
    for axes, workload in zip(grid.flat, workloads, strict=False):
        runs = [middle(results["runs"][workload].get(name, [])) for name in names]
        seconds = [run["seconds"] if run else 0 for run in runs]
        right = min(max(seconds), 5 * sorted(seconds)[len(seconds) // 4])  # what is far slower is cut off
        bars = axes.barh(names, [min(value, right) for value in seconds], color=colors)
        labels = [f"{'» ' * (value > right)}{value:.2f} s" if value else "fails" for value in seconds]
        axes.bar_label(bars, labels, padding=3, fontsize=8)
        axes.axvline(limit(results, workload), color="black", linewidth=1, linestyle=":")
        axes.set_title(results["workloads"][workload]["title"], fontsize=10, loc="left", fontweight="bold")
        axes.tick_params(labelsize=8)
        axes.set_xlim(0, right * 1.2)
        axes.xaxis.set_visible(False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    for axes in list(grid.flat)[len(workloads) :]:
        axes.set_visible(False)
    figure.suptitle(
        "Seconds for the same pixels at 100 Mbit/s and 40 ms (dotted: the limit; »: cut off)",
        fontsize=12,
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
