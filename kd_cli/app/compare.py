"""What ``kd evaluate`` and ``kd benchmark`` measure of the loaded networks, here and now."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import streamlit as st

from kd_cli import measure
from kd_cli.app import loaded, show
from kd_cli.checkpoint import Checkpoint
from kd_cli.context import Place
from kd_cli.settings import DatasetName, DeviceName, KdError

PAGE = {"title": "Compare", "icon": ":material/balance:", "url_path": "compare"}

Result = dict[str, Any]

_one_at_a_time = threading.Lock()


def page() -> None:
    """The page Compare."""
    st.title("Teacher and student compared")
    with loaded.failures_shown():
        dataset, networks = loaded.for_testing()
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
        ("ECE (15 bins)", [f"{m['ece']:.4f}" for m in models], [m["ece"] for m in models]),
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
    rows = [
        ("Parameters", [f"{m['parameters']:,}" for m in models], [m["parameters"] for m in models]),
        ("MACs per picture", [f"{m['macs']:,}" for m in models], [m["macs"] for m in models]),
        ("Bytes on disk", [f"{m['size_bytes']:,}" for m in models], [m["size_bytes"] for m in models]),
        *(
            (
                f"Latency {p}, one picture (ms)",
                [f"{m['latency_ms'][p]:.3f}" for m in models],
                [m["latency_ms"][p] for m in models],
            )
            for p in ("p50", "p95")
        ),
        (
            "Pictures per second, batch 500",
            [f"{m['throughput_per_s']:,.0f}" for m in models],
            [m["throughput_per_s"] for m in models],
        ),
        (
            "Whole test set (s)",
            [f"{m['test_set_seconds']:.3f}" for m in models],
            [m["test_set_seconds"] for m in models],
        ),
    ]
    teacher, student = models
    more = "more" if student["parameters"] > teacher["parameters"] else "fewer"
    st.html(
        show.heading("Cost")
        + show.side_by_side(_columns(models), rows, result["device_name"])
        + f"<p>One picture: the student is {result['student_speedup']:.1f} times as fast as the teacher. "
        f"It has {student['parameters'] / teacher['parameters']:.2f} times the teacher's parameters ({more}), and "
        f"{student['macs'] / teacher['macs']:.2f} times its multiply-accumulates (MACs).</p>"
    )


def _columns(models: list[Result]) -> list[str]:
    return [f"{m['role'].capitalize()} {m['architecture']}" for m in models]


def _confusions(result: Result) -> None:
    st.html(show.heading("What is taken for what"))
    for column, model in zip(st.columns(2), result["models"], strict=True):
        with column:
            st.html(show.confusion(model["role"].capitalize(), model["confusion"], result["classes"]))
