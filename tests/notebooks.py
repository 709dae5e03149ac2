"""Run all notebooks against the sandbox: ``python tests/notebooks.py``; ``--save`` keeps what they show.

A cell that fails, or a notebook that shows no picture, is an error. The real tiles are used where they are.
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from conftest import REAL_TILES
from rio_terrascope.sandbox.tile import write_tile

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="write what the cells show into the notebooks")
    parser.add_argument("only", nargs="*", help="parts of names")
    options = parser.parse_args()
    chosen = [n for n in NOTEBOOKS if not options.only or any(part in n.name for part in options.only)]
    with tempfile.TemporaryDirectory(prefix="terrascope-notebooks-") as folder:
        os.environ["TERRASCOPE_TEST_TILES"] = str(_tiles(Path(folder)))
        for path in chosen:
            notebook = nbformat.read(path, as_version=4)
            NotebookClient(
                notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}
            ).execute()
            pictures = sum(
                "image/png" in output.get("data", {})
                for cell in notebook.cells
                for output in cell.get("outputs", [])
            )
            assert pictures, f"{path.name} shows no picture"
            print(f"{path.name}: {len(notebook.cells)} cells, {pictures} pictures", flush=True)
            if options.save:
                for cell in notebook.cells:
                    cell.metadata.pop("execution", None)  # the hour at which it ran
                nbformat.write(notebook, path)


def _tiles(folder: Path) -> Path:
    if len(list(REAL_TILES.glob("ESA_WorldCover_*_Map.tif"))) == 2:
        return REAL_TILES
    for year, version in ((2020, "v100"), (2021, "v200")):
        write_tile(folder / f"ESA_WorldCover_10m_{year}_{version}_N00E006_Map.tif", year=year)
    return folder


if __name__ == "__main__":
    main()
