"""Distil a student for a few epochs, and watch.

The page asks for what ``kd distill`` asks for. Its batches are as large as that command's by default.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import streamlit as st

from kd_cli.app import curves, draw, loaded, markup, settings, upload
from kd_cli.app.bounds import require_modest
from kd_cli.app.limits import MAX_EPOCHS, MAX_PARAMETERS, MAX_RUN_MINUTES, MAX_STUDENTS
from kd_cli.app.navigation import Page
from kd_cli.app.run import Run, runs
from kd_cli.app.visitor import current_visitor
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.network_files import require_fit
from kd_cli.commands.results import TrainingResult
from kd_cli.config import AUGMENTATIONS, MAX_SEED, ConfigError, DeviceName, KdError, Role, TrainingConfig
from kd_cli.data.dataset import DataInfo, Dataset
from kd_cli.distillation.methods import METHODS, MethodConfig
from kd_cli.networks.spec import Spec, parse_spec
from kd_cli.report.tables import counted
from kd_cli.report.training import accuracy_in_words

REFRESH = 0.5
"""Seconds between two looks at a run."""

STEPS = {"temperature": 0.5, "alpha": 0.05}
"""By how much a click changes an option. Weights, which differ by powers of ten, change by a tenth of their default."""

DEFAULTS = TrainingConfig(epochs=3)

CHANGES = {
    "shift": "move it a little",
    "warp": "turn, scale and slant it a little",
    "flip-crop": "mirror it at random, and move it by more",
    "resized-crop": "show a part of it",
}
"""What each augmentation does to an image."""

STUDENTS = (
    "cnn-N has N filters, mlp-N[-M...] hidden layers of these sizes, resnet-N N layers (8, 14, 20, ...). Other "
    "networks are for the command line: no visitor makes the server run other code."
)

Configure = Callable[[], StudentConfig]
"""What the visitor asks for. Raises `ConfigError` where that cannot be."""


def show() -> None:
    """The page Train."""
    st.title("Distil a student")
    with loaded.failures_shown():
        dataset = loaded.test_images()
        teacher = loaded.load_or_shipped(dataset.info.name, Role.teacher)
        require_fit(teacher, dataset.info)
    st.html(
        f"<p>This page does what <code>kd distill</code> does, on {markup.escape(dataset.info.name)}: it trains a new "
        f"student with the teacher. A student may have up to {MAX_PARAMETERS:,} parameters, and a run up to "
        f"{MAX_EPOCHS} epochs; one that would take more than {MAX_RUN_MINUTES} min, by its first steps, is ended. One "
        f"run goes on at a time, the others wait. The server keeps the latest {MAX_STUDENTS} students until it ends, "
        "and this browser finds its runs here again.</p>"
    )
    me = current_visitor()
    above, asking = st.container(), st.container()
    with asking:
        configure = _ask(dataset)
        refused = None
        if st.button("Start"):
            try:
                _start(configure(), dataset.info)
            except KdError as error:
                refused = loaded.in_page_words(str(error))
    with above:
        if refused:
            st.error(markup.as_markdown(refused))
        unfinished = runs().unfinished()
        if unfinished:
            st.fragment(_watch, run_every=REFRESH)(me, _mine(unfinished, me))
        latest = runs().latest_of(me)
        if latest:
            _show_outcome(latest)
    loaded.show_sources([teacher])


def _mine(unfinished: list[Run], me: str) -> list[Run]:
    return [run for run in unfinished if run.owner == me]


def _ask(dataset: Dataset) -> Configure:
    left, middle, right = st.columns(3)
    with left:
        method = st.selectbox("Method", METHODS, list(METHODS).index("kd"), format_func=_describe)
        student = st.text_input("Student", "mlp-128" if dataset.info.shape[0] == 1 else "resnet-8", help=STUDENTS)
    options: dict[str, Any] = {}
    with middle:
        for name, default in METHODS[method].options.items():
            most = 1.0 if name == "alpha" else None
            step = STEPS.get(name, default / 10)
            # Each method has a widget of its own for each of its options: a widget keeps its value.
            options[name] = st.number_input(
                name.capitalize(), 0.0, most, float(default), step, format="%g", key=f"{method} {name}"
            )
        if not options:
            st.html("<p>This method has no options.</p>")
    with right:
        epochs = st.number_input("Epochs", 1, MAX_EPOCHS, DEFAULTS.epochs)
        lr = st.number_input("Learning rate", 0.0, None, DEFAULTS.lr, DEFAULTS.lr / 2, format="%g")
        seed = st.number_input("Seed", 0, MAX_SEED, DEFAULTS.seed)
    changes = st.multiselect(
        "Change each image, anew in every epoch",
        AUGMENTATIONS,
        format_func=lambda name: f"{name}: {CHANGES[name]}",
        placeholder="Images stay as they are",
    )

    def configure() -> StudentConfig:
        augment = tuple(name for name in AUGMENTATIONS if name in changes)
        return StudentConfig(
            _parse_student(student),
            MethodConfig(method, **options),
            data=loaded.same_data(dataset),
            training=TrainingConfig(epochs=epochs, lr=lr, seed=seed, augment=augment),
            run=replace(settings.run, device=DeviceName.auto),
        )

    return configure


def _parse_student(text: str) -> Spec:
    """A reference network.

    Raises:
        ConfigError: it is none, or another one.
    """
    spec = parse_spec(text)
    if not spec.is_reference:
        raise ConfigError(f"{spec}: this page trains cnn-N, mlp-N and resnet-N; kd distill trains others, too")
    return spec


def _describe(method: str) -> str:
    return f"{method}: {METHODS[method].short}"


def _start(config: StudentConfig, data: DataInfo) -> None:
    """Put a run into the queue.

    Raises:
        KdError: it is more than this page trains, or too many runs wait.
    """
    require_modest(config, data)
    name = f"{config.architecture} on {data.name}, {config.method}, {counted(config.training.epochs, 'epoch')}"
    runs().add(name, config, data, current_visitor())


def _watch(me: str, mine: list[Run]) -> None:
    """The queue, and how far the visitor's runs are. Runs by itself, again and again, while there are any."""
    unfinished = runs().unfinished()
    if _mine(unfinished, me) != mine or not unfinished:
        st.rerun()  # the whole page: a button in here could be gone before its click arrives
    st.html(_describe_queue(unfinished, me))
    for run in mine:
        if run.running:
            _show_progress(run)
        if run.stopping:
            st.button("Stop now, and keep nothing", key=f"cancel {run.name}", on_click=run.cancel)
        else:
            # One button with two names: a click is not lost although the run begins before it arrives.
            name = "Stop after this epoch" if run.running else "Take out of the queue"
            st.button(name, key=f"end {run.name}", on_click=run.end)
        curves.show(run)


def _describe_queue(unfinished: list[Run], me: str) -> str:
    """Whose run goes on, and which wait, in their order."""
    entries = []
    for place, run in enumerate(unfinished):
        whose = "yours" if run.owner == me else "another visitor's"
        state = "goes on now" if run.running else "starts next" if place == 0 else f"number {place} of those that wait"
        entries.append(f"<li>Run {markup.escape(run.name)} ({whose}): {state}</li>")
    return f'<ul class="kd-queue">{"".join(entries)}</ul>'


def _show_progress(run: Run) -> None:
    """How far the visitor's own run is."""
    if run.total_steps:
        state = "Stopping after this epoch" if run.stopping else "Training"
        st.progress(run.step / run.total_steps, f"{state}: step {run.step:,} of {run.total_steps:,}")
    else:
        st.progress(0.0, "Starting: the teacher's outputs for all training images are computed")


def _show_outcome(run: Run) -> None:
    """What came of a run that has ended."""
    st.html(markup.heading(f"Run {run.name}"))
    if run.result:
        _show_result(run, run.result)
    elif run.cancelled:
        st.info("You stopped this run. Nothing was kept.")
    elif run.error:
        st.error(markup.as_markdown(loaded.in_page_words(run.error)))
    curves.show(run)


def _show_result(run: Run, result: TrainingResult) -> None:
    whole = run.config.training.epochs
    stopped = result.epochs < whole
    after = (
        f"Stopped after {result.epochs} of {counted(whole, 'epoch')}" if stopped else counted(result.epochs, "epoch")
    )
    text = f"{accuracy_in_words(result)}. {after}, {result.train_seconds:.1f} s."
    if result.fault:
        st.warning(markup.as_markdown(f"{text} But {loaded.in_page_words(result.fault)}."))
    elif stopped:
        st.info(text)
    else:
        st.success(text)
    try:
        content = run.output.read_bytes()
    except OSError:
        st.warning("The student's file is gone. Train it again to use it.")
        return
    left, right, _ = st.columns([1, 1, 2])
    left.download_button("Download the checkpoint", content, run.output.name, "application/octet-stream")
    page = draw.PAGE if loaded.is_handwriting() else upload.PAGE
    if right.button(f"Try it on the page {page.title}"):
        st.session_state["student"] = run.output
        st.switch_page(page.as_entry())


PAGE = Page(show, "Train", "model_training")
