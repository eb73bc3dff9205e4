"""The notebook runs from top to bottom, and what is committed is what its code printed."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests import notebook
from tests.conftest import ROOT

for module in ("nbclient", "nbformat", "ipykernel", "matplotlib"):
    pytest.importorskip(module, reason="executing the notebook needs the extra 'test'")

SHORT = {
    "dataset_name": "digits",
    "epochs": 1,
    "seeds": 2,
    "temperatures": [1, 4],
    "temperature_seeds": 2,
    "jobs": 1,
}

FORMULA_CODE_OR_LINK = re.compile(r"\$\$.*?\$\$|\$.*?\$|`.*?`|\[.*?\]\(.*?\)", re.DOTALL)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@pytest.fixture(scope="module")
def committed() -> notebook.Notebook:
    return notebook.read()


@pytest.fixture(scope="module")
def files_before() -> dict[Path, int]:
    return files()


@pytest.fixture(scope="module")
def executed(files_before: dict[Path, int]) -> notebook.Notebook:
    """The notebook after a short run: the small digits, one epoch, two seeds."""
    return notebook.execute(notebook.read(), SHORT)


def files() -> dict[Path, int]:
    """What lies where a careless notebook would write, and when it was last changed."""
    folders = (ROOT / "models", ROOT / "runs", notebook.NOTEBOOK.parent)
    return {
        path: path.stat().st_mtime_ns
        for folder in folders
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def outputs(cells: notebook.Notebook) -> list[Any]:
    return [output for cell in notebook.code_cells(cells) for output in cell.outputs]


def printed(cells: notebook.Notebook) -> str:
    """All text of all outputs."""
    texts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs(cells)]
    return "\n".join(texts)


def assert_ran_cleanly(cells: notebook.Notebook) -> None:
    counts = [cell.execution_count for cell in notebook.code_cells(cells)]
    assert counts == list(range(1, len(counts) + 1))
    assert [
        output for output in outputs(cells) if output.output_type == "error" or output.get("name") == "stderr"
    ] == []


@pytest.mark.slow
class TestAShortRun:
    def test_comes_to_its_end_without_an_error_or_a_warning(self, executed: notebook.Notebook) -> None:
        assert_ran_cleanly(executed)

    def test_takes_its_settings_from_the_parameters_cell(self, executed: notebook.Notebook) -> None:
        assert "Verdict on 2 seeds" in printed(executed)
        assert "epochs=1" in printed(executed)

    def test_draws_as_many_plots_as_the_committed_run(
        self, executed: notebook.Notebook, committed: notebook.Notebook
    ) -> None:
        drawn, expected = (
            ["image/png" in output.get("data", {}) for output in outputs(each)].count(True)
            for each in (executed, committed)
        )
        assert drawn == expected > 0

    def test_leaves_no_file_in_the_checkout(self, files_before: dict[Path, int], executed: notebook.Notebook) -> None:
        assert files() == files_before


class TestTheCommittedOutputs:
    def test_are_those_of_one_run_from_top_to_bottom(self, committed: notebook.Notebook) -> None:
        assert_ran_cleanly(committed)

    def test_come_from_the_committed_code(self, committed: notebook.Notebook) -> None:
        assert committed.metadata["kd"]["code_sha256"] == notebook.fingerprint(committed), (
            "the code was changed after the run: python -m tests.notebook"
        )

    def test_come_from_a_run_on_mnist_that_took_at_most_three_minutes(self, committed: notebook.Notebook) -> None:
        took = re.search(r"This notebook took (\d+) s", printed(committed))
        assert took
        assert int(took[1]) <= 180
        assert "Did it help? mnist" in printed(committed)

    def test_name_no_folder_of_the_machine(self, committed: notebook.Notebook) -> None:
        shown = [output.get("text", "") for output in outputs(committed)]
        shown += [
            text for output in outputs(committed) for kind, text in output.get("data", {}).items() if "text" in kind
        ]
        assert re.findall(r"(?<![\w.<])/\w[\w.-]*/[\w./-]*", "\n".join(shown)) == []

    def test_are_small(self) -> None:
        assert notebook.NOTEBOOK.stat().st_size < 1_000_000

    def test_show_every_number_that_the_text_states(self, committed: notebook.Notebook) -> None:
        text = "\n".join(cell.source for cell in committed.cells if cell.cell_type == "markdown")
        prose = re.sub(FORMULA_CODE_OR_LINK, " ", text)
        assert set(NUMBER.findall(prose)) <= set(NUMBER.findall(printed(committed)))
