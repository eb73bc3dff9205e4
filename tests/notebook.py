"""Execute the notebook. ``python -m tests.notebook`` puts the outputs of a real run into the committed file."""

import hashlib
import os
import time
from collections.abc import Mapping
from typing import Any

from tests.conftest import DATA_DIR, ROOT

NOTEBOOK = ROOT / "notebooks" / "knowledge-distillation.ipynb"

Notebook = Any
"""nbformat's own class is not typed."""


def read() -> Notebook:
    """The committed notebook."""
    import nbformat

    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: Notebook) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def fingerprint(notebook: Notebook) -> str:
    """Differs between notebooks whose code differs, so that outputs cannot outlive the code that made them."""
    sources = "\0".join(cell.source for cell in code_cells(notebook))
    return hashlib.sha256(sources.encode()).hexdigest()


def execute(notebook: Notebook, parameters: Mapping[str, Any] | None = None) -> Notebook:
    """Run all cells in a fresh kernel, in the notebook's folder, with values in place of those in its parameters cell.

    Raises:
        CellExecutionError: a cell failed; has its traceback.
    """
    from nbclient import NotebookClient

    (cell,) = (cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", []))
    committed = cell.source
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in (parameters or {}).items())
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources, record_timing=False)
    client.execute(env=os.environ | {"KD_DATA_DIR": str(DATA_DIR)})  # absolute, as the kernel works in another folder
    cell.source = committed
    return notebook


def main() -> None:
    """Run with the committed parameters, and write the outputs back."""
    import nbformat

    start = time.perf_counter()
    notebook = execute(read())
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "kd": {"code_sha256": fingerprint(notebook)},
    }
    nbformat.write(notebook, NOTEBOOK)
    print(f"{NOTEBOOK.name}: {time.perf_counter() - start:.0f} s, {NOTEBOOK.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
