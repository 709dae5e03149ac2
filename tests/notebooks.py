"""Run all notebooks as a reader would: ``python tests/notebooks.py``. ``--save`` keeps their output.

They run in an empty folder, without TERRASCOPE_ variables in the environment. A cell that fails is
an error, and so is a notebook without a picture.
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="write what the cells show into the notebooks")
    parser.add_argument("only", nargs="*", help="parts of names")
    options = parser.parse_args()
    chosen = [n for n in NOTEBOOKS if not options.only or any(part in n.name for part in options.only)]
    for name in [name for name in os.environ if name.startswith("TERRASCOPE_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="terrascope-notebooks-") as folder:
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
                    cell.metadata.pop("execution", None)  # the time of the run
                nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
