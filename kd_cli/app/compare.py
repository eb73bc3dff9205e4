"""What ``kd evaluate`` and ``kd benchmark`` measure of the loaded networks, here and now."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import streamlit as st

from kd_cli import measure, report
from kd_cli.app import loaded, show
from kd_cli.checkpoint import Checkpoint
from kd_cli.context import Place
from kd_cli.report import Result
from kd_cli.settings import ECE_BINS, DatasetName, DeviceName, KdError

PAGE = {"title": "Compare", "icon": ":material/balance:", "url_path": "compare"}

_one_at_a_time = threading.Lock()


def page() -> None:
    """The page Compare."""
    st.title("Teacher and student compared")
    with loaded.failures_shown():
        dataset, networks = loaded.for_testing()
        networks = loaded.to_test(networks, dataset)
        if st.button("Measure again"):
            measured.clear()
        quality, cost = measured(
            dataset.name, loaded.place().data_dir, *(_stamp(checkpoint) for checkpoint in networks.values())
        )
    _quality(quality)
    _cost(cost)
    _confusions(quality)
    st.html(show.sources(networks.values()))


def _stamp(checkpoint: Checkpoint) -> tuple[Path, int]:
    return checkpoint.path, checkpoint.path.stat().st_mtime_ns


@st.cache_resource(show_spinner="Measuring quality and cost", max_entries=8)
def measured(
    dataset: DatasetName, data_dir: Path, teacher: tuple[Path, int], student: tuple[Path, int]
) -> tuple[Result, Result]:
    """The documents of ``kd evaluate`` and ``kd benchmark`` for two checkpoints, given with the times of their files.

    Raises:
        KdError: as the commands do.
    """
    paths = [teacher[0], student[0]]
    quality = measure.evaluate(Place(dataset, data_dir, loaded.place().models_dir, DeviceName.cpu), paths)
    # A process of its own: the clock of a server that serves others meanwhile would count them in.
    command = [sys.executable, "-m", "kd_cli", "benchmark", *map(str, paths), "--json", "--device", "cpu"]
    command += ["--dataset", dataset.value, "--data-dir", str(data_dir)]
    with _one_at_a_time:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise KdError(run.stderr.strip().removeprefix("kd: ") or "the measurement was stopped: measure again")
    return quality, json.loads(run.stdout)


def _quality(result: Result) -> None:
    models = result["models"]
    rows = [
        ("Errors", [f"{m['error_count']:,}" for m in models], [m["error_count"] for m in models]),
        ("Accuracy", [f"{m['accuracy']:.2%}" for m in models], None),
        ("NLL (nats)", [f"{m['nll']:.4f}" for m in models], [m["nll"] for m in models]),
        (f"ECE ({ECE_BINS} bins)", [f"{m['ece']:.4f}" for m in models], [m["ece"] for m in models]),
        ("Agreement with the teacher", [f"{m['agreement']:.2%}" for m in models], None),
    ]
    rows += [
        (
            f"Errors in class {name}",
            [f"{_errors(m, i):,}" for m in models],
            [_errors(m, i) for m in models],
        )
        for i, name in enumerate(result["classes"])
    ]
    st.html(
        show.heading(f"Quality: {result['test_images']:,} test pictures of {result['dataset']}")
        + show.side_by_side(_columns(models), rows, result["device_name"])
    )


def _errors(model: Result, i: int) -> int:
    """Pictures of class number i that were taken for another."""
    row = model["confusion"][i]
    return int(sum(row) - row[i])


def _cost(result: Result) -> None:
    models = result["models"]
    rows = []
    for name, value, form in report.COSTS:
        values = [value(model) for model in models]
        rows.append((name, [format(each, form) for each in values], values))
    st.html(
        show.heading("Cost")
        + show.side_by_side(_columns(models), rows, result["device_name"])
        + f"<p>{' '.join(report.cost_in_words(result))}</p>"
    )


def _columns(models: list[Result]) -> list[str]:
    return [f"{m['role'].capitalize()} {m['architecture']}" for m in models]


def _confusions(result: Result) -> None:
    st.html(show.heading("What is taken for what"))
    for column, model in zip(st.columns(2), result["models"], strict=True):
        with column:
            st.html(show.confusion(model["role"].capitalize(), model["confusion"], result["classes"]))
