"""Time `tsread --help` against `import rasterio`, and print the ratio of the medians.

Run it with the Python of the environment that has the package::

    python tests/benchmarks/start.py
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

TSREAD = Path(sys.executable).with_name("tsread")
COMMANDS = {
    "tsread --help": [str(TSREAD), "--help"],
    "import rasterio": [sys.executable, "-c", "import rasterio"],
}
REPETITIONS = 11


def seconds(command: list[str]) -> float:
    """Run a command and return the seconds it took."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Run both in turn, so that a slow moment affects both, and compare."""
    runs = [{name: seconds(command) for name, command in COMMANDS.items()} for _ in range(REPETITIONS)]
    ours, theirs = (median(run[name] for run in runs) for name in COMMANDS)
    print(f"tsread --help takes {ours / theirs:.2f} times as long as import rasterio")


if __name__ == "__main__":
    main()
