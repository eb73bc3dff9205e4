"""What ``kd evaluate`` and ``kd benchmark`` measure of the loaded networks, here and now."""

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from kd_cli.app import loaded, markup, settings
from kd_cli.app.events import Measured
from kd_cli.app.limits import MEASURING_SECONDS
from kd_cli.app.markup import MOST_CLASSES, MOST_RANKED, Measure
from kd_cli.app.navigation import Page
from kd_cli.app.process import carry_out
from kd_cli.app.worker import measure
from kd_cli.commands.evaluate import evaluate
from kd_cli.commands.results import BenchmarkResult, EvaluatedModel, EvaluationResult
from kd_cli.config import ECE_BINS, DataConfig
from kd_cli.networks.checkpoint import Checkpoint
from kd_cli.report.benchmark import COSTS, cost_in_words
from kd_cli.report.tables import name_of

_one_at_a_time = threading.Lock()


def show() -> None:
    """The page Compare."""
    st.title("Teacher and student compared")
    with loaded.failures_shown():
        dataset, networks = loaded.for_testing()
        if st.button("Measure again"):
            measured.clear()
        quality, cost = measured(loaded.same_data(dataset), *(_stamp(checkpoint) for checkpoint in networks.values()))
    _show_quality(quality)
    _show_cost(cost)
    _show_confusions(quality)
    loaded.show_sources(networks.values())


def _stamp(checkpoint: Checkpoint) -> tuple[Path, str]:
    return checkpoint.path, checkpoint.digest


@st.cache_resource(show_spinner="Measuring quality and cost", max_entries=8)
def measured(
    data: DataConfig, teacher: tuple[Path, str], student: tuple[Path, str]
) -> tuple[EvaluationResult, BenchmarkResult]:
    """The results of ``kd evaluate`` and ``kd benchmark`` for two checkpoints, given with their digests.

    Raises:
        KdError: as the commands do; or the measurement took too long.
    """
    paths, run = [teacher[0], student[0]], settings.run
    quality = evaluate(paths, data, run)
    with _one_at_a_time:
        # In a process of its own: here, the work for other visitors would be measured with it.
        outcome = carry_out(partial(measure, paths, data, run), MEASURING_SECONDS)
    assert isinstance(outcome, Measured)
    return quality, outcome.result


def _show_quality(result: EvaluationResult) -> None:
    models = result.models
    rows = [
        Measure("Errors", [f"{m.error_count:,}" for m in models], [m.error_count for m in models], "errors"),
        Measure("Accuracy", [f"{m.accuracy:.2%}" for m in models]),
        Measure("NLL (nats)", [f"{m.nll:.4f}" for m in models], [m.nll for m in models], "nats"),
        Measure(f"ECE ({ECE_BINS} bins)", [f"{m.ece:.4f}" for m in models], [m.ece for m in models], "ece"),
        Measure("Agreement with the teacher", ["-" if m.agreement is None else f"{m.agreement:.2%}" for m in models]),
    ]
    by_class = [(name, [_errors(model, i) for model in models]) for i, name in enumerate(result.classes)]
    if len(by_class) > MOST_CLASSES:
        by_class = sorted(by_class, key=lambda each: -sum(each[1]))[:MOST_RANKED]
    for name, errors in by_class:
        rows.append(Measure(f"Errors in class {name}", [f"{each:,}" for each in errors], errors, "errors in a class"))
    st.html(
        markup.heading(f"Quality: {result.test_images:,} test images of {result.dataset}")
        + markup.side_by_side(list(map(name_of, models)), rows, result.device_name)
    )


def _errors(model: EvaluatedModel, i: int) -> int:
    """Images of class number i that were predicted as another."""
    row = model.confusion[i]
    return sum(row) - row[i]


def _show_cost(result: BenchmarkResult) -> None:
    models = result.models
    rows = [
        Measure(
            cost.name,
            [cost.show(model) for model in models],
            [cost.value(model) for model in models],
            "latency" if cost.name.startswith("Latency") else cost.name,
        )
        for cost in COSTS
    ]
    st.html(
        markup.heading(f"Cost on {result.dataset}")
        + markup.side_by_side(list(map(name_of, models)), rows, result.device_name)
        + f"<p>{' '.join(cost_in_words(result))}</p>"
    )


def _show_confusions(result: EvaluationResult) -> None:
    st.html(markup.heading("Which classes are predicted as which"))
    if len(result.classes) > MOST_CLASSES:
        for model in result.models:
            st.html(_most_confused(model, result.classes))
        return
    darkest = max(markup.count_confused(model.confusion) for model in result.models)
    for column, model in zip(st.columns(2), result.models, strict=True):
        with column:
            st.html(markup.confusion(name_of(model), model.confusion, result.classes, darkest))


def _most_confused(model: EvaluatedModel, classes: Sequence[str]) -> str:
    pairs = [(count, i, j) for i, row in enumerate(model.confusion) for j, count in enumerate(row) if count and i != j]
    ranked = sorted(pairs, reverse=True)[:MOST_RANKED]
    rows = [(classes[i], classes[j], f"{count:,}") for count, i, j in ranked]
    title = f"{name_of(model)}: classes confused most often"
    return markup.heading(title, 3) + markup.table(["Label", "Predicted as", "Images"], rows)


PAGE = Page(show, "Compare", "balance")
