"""The measurements as a table and a plot."""

import argparse
import platform
from dataclasses import dataclass
from pathlib import Path

import rasterio
from workloads import Workload

OURS = "rio-terrascope"


@dataclass(frozen=True)
class Cell:
    """A run of one contender on one workload."""

    seconds: float
    requests: int
    connections: int
    megabytes: float
    memory: float
    pixels: str

    def __str__(self) -> str:
        return (
            f"{self.seconds:7.3f} s {self.requests:5} requests {self.connections:4} connections "
            f"{self.megabytes:7.2f} MB, memory {self.memory:.0f} MB"
        )


Cells = dict[tuple[str, str], Cell]


def table(
    workloads: list[Workload], contenders: list[str], cells: Cells, server: str, options: argparse.Namespace
) -> str:
    """Write the table: seconds (and the ratio to ours), then requests / connections / MB."""
    shown = [name for name in contenders if any((w.name, name) in cells for w in workloads)]
    lines = [
        f"Median of {options.repetitions} alternating runs, each in a process of its own, over {server}, "
        f"{options.round_trip:g} ms round trip; rasterio {rasterio.__version__} (GDAL "
        f"{rasterio.__gdal_version__}), Python {platform.python_version()}. A cell: seconds (as a multiple "
        f"of {OURS}'s), then requests / connections / MB received. What took longer than 20 s was measured "
        "once. The pixels were identical in every run.",
        "",
        f"| workload | {' | '.join(shown)} |",
        f"| --- |{' --- |' * len(shown)}",
    ]
    for workload in workloads:
        row = []
        for name in shown:
            cell = cells.get((workload.name, name))
            if cell is None:
                row.append("-")
                continue
            ours = cells.get((workload.name, OURS))
            ratio = "" if ours is None or name == OURS else f" (x{cell.seconds / ours.seconds:.2f})"
            bold = "**" if name == OURS else ""
            row.append(
                f"{bold}{cell.seconds:.2f}{bold}{ratio}<br>"
                f"{cell.requests} / {cell.connections} / {cell.megabytes:.1f}"
            )
        lines.append(f"| {workload.title} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def growth_table(grown: list[tuple[Workload, Cell]]) -> str:
    """Write the table of how time, requests and memory grow with the amount of data."""
    if not grown:
        return ""
    lines = [
        "",
        f"How {OURS} grows, one run each:",
        "",
        "| work | blocks touched | seconds | requests | MB | most memory, MB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {workload.title} | {workload.blocks()} | {cell.seconds:.2f} | {cell.requests} | "
        f"{cell.megabytes:.1f} | {cell.memory:.0f} |"
        for workload, cell in grown
    ]
    return "\n".join(lines) + "\n"


def plot(workloads: list[Workload], contenders: list[str], cells: Cells, path: Path) -> None:
    """Plot the seconds, with a group of bars for each workload."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    colors = {
        OURS: "#0072b2", "plain Env(GDAL_HTTP_HEADERS)": "#999999", "leafmap's option": "#bbbbbb",
        "odc-stac's options": "#d0d0d0", "TiTiler's options": "#777777", "async-geotiff + obstore": "#e69f00",
        "download first": "#cc79a7", "static header": "#009e73",
    }  # fmt: skip
    columns = 2
    rows = -(-len(workloads) // columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(11, 1.75 * rows), layout="constrained")
    for axes, workload in zip(grid.flat, workloads, strict=False):
        names = [name for name in contenders if (workload.name, name) in cells][::-1]
        seconds = [cells[workload.name, name].seconds for name in names]
        bars = axes.barh(names, seconds, color=[colors[name] for name in names])
        axes.bar_label(bars, [f"{value:.2f} s" for value in seconds], padding=3, fontsize=8)
        axes.set_title(workload.title, fontsize=10, loc="left", fontweight="bold")
        axes.tick_params(labelsize=8)
        axes.set_xlim(0, max(seconds) * 1.18)
        axes.xaxis.set_visible(False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    for axes in list(grid.flat)[len(workloads) :]:
        axes.set_visible(False)
    figure.suptitle("Seconds for the same pixels (shorter is better)", fontsize=12)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
