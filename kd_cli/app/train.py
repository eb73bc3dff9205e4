"""Distil a student for a few epochs, and watch.

The page asks for what ``kd distill`` asks for. Its batches are as large as that command's by default.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import streamlit as st

from kd_cli.app import curves, draw, loaded, markup
from kd_cli.app.limits import MAX_EPOCHS, MAX_PARAMETERS
from kd_cli.app.navigation import Page
from kd_cli.app.run import Run, require_modest, runs
from kd_cli.app.visitor import current_visitor, is_here
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.results import TrainingResult
from kd_cli.config import MAX_SEED, Role, RunConfig, TrainingConfig
from kd_cli.data.dataset import DataInfo
from kd_cli.distillation.methods import METHODS, MethodConfig
from kd_cli.networks.spec import parse_spec
from kd_cli.report.tables import counted
from kd_cli.report.training import accuracy_in_words

REFRESH = 0.5
"""Seconds between two looks at a run."""

STEPS = {"temperature": 0.5, "alpha": 0.05}
"""By how much a click changes an option. Weights, which differ by powers of ten, change by a tenth of their default."""

DEFAULTS = TrainingConfig(epochs=3)

Configure = Callable[[str], StudentConfig]
"""The name of a data set -> what to train on it. Raises `ConfigError` where the visitor asks for what cannot be."""


def show() -> None:
    """The page Train."""
    st.title("Distil a student")
    with loaded.failures_shown():
        dataset, networks = loaded.for_testing()
    st.html(
        f"<p>This page does what <code>kd distill</code> does, on {dataset.info.name}: it trains a new student "
        f"with the teacher. A student has up to {MAX_PARAMETERS:,} parameters, a run up to {MAX_EPOCHS} epochs. Only "
        "one run goes on at a time. The server keeps the students until it ends.</p>"
    )
    configure = _ask()
    run = runs().latest
    busy = run is not None and run.running
    if st.button("Start", disabled=busy):
        with loaded.failures_shown():
            _start(configure, dataset.info)
        st.rerun()
    if run:
        if busy:
            st.fragment(_watch, run_every=REFRESH)(run)
        else:
            _show_outcome(run)
    st.html(markup.sources([networks[Role.teacher]]))


def _ask() -> Configure:
    left, middle, right = st.columns(3)
    with left:
        method = st.selectbox("Method", METHODS, list(METHODS).index("kd"), format_func=_describe)
        student = st.text_input("Student", "mlp-128", help="cnn-N has N filters; mlp-N has N hidden units.")
    options = {}
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
    augment = st.checkbox("Move each image by up to 2 pixels, anew in every epoch")

    def configure(dataset: str) -> StudentConfig:
        return StudentConfig(
            parse_spec(student),
            MethodConfig(method, **options),
            data=replace(loaded.data_config(), dataset=dataset),
            training=TrainingConfig(epochs=epochs, lr=lr, seed=seed, augment=augment),
            run=RunConfig(models_dir=loaded.run_config().models_dir),
        )

    return configure


def _describe(method: str) -> str:
    return f"{method}: {METHODS[method].short}"


def _start(configure: Configure, data: DataInfo) -> None:
    """Start a run.

    Raises:
        KdError: what the visitor asks for cannot be, is more than this page trains, or has to wait.
    """
    config = configure(data.name)
    require_modest(config, data)
    name = f"{config.architecture} on {data.name}, {config.method}, {counted(config.training.epochs, 'epoch')}"
    runs().start(name, config, current_visitor())


def _watch(run: Run) -> None:
    """How far a run is. Runs by itself, again and again, while that goes on."""
    if not run.running:
        st.rerun()  # the whole page: a button in here could be gone before its click arrives
    st.html(markup.heading(f"Run {run.name}"))
    if run.total_steps:
        state = "Stopping after this epoch" if run.stopping else "Training"
        st.progress(run.step / run.total_steps, f"{state}: step {run.step:,} of {run.total_steps:,}")
    else:
        st.progress(0.0, "Starting: the teacher's outputs for all training images are computed")
    _offer_to_stop(run)
    curves.show(run)


def _offer_to_stop(run: Run) -> None:
    """Buttons for the visitor who started the run; for others too once that visitor has left."""
    if run.owner != current_visitor():
        if is_here(run.owner):
            st.info("Another visitor started this run. You can start yours when it has ended.")
            return
        st.info("The visitor who started this run has left. You can wait until it has ended, or stop it.")
    if not run.stopping and st.button("Stop after this epoch"):
        run.stop()
        st.rerun(scope="fragment")
    if run.stopping and st.button("Stop now, and keep nothing"):
        run.kill()


def _show_outcome(run: Run) -> None:
    """What came of a run that has ended."""
    st.html(markup.heading(f"Run {run.name}"))
    curves.show(run)
    if run.error:
        st.error(markup.as_markdown(run.error))
    if run.result:
        _show_result(run.result)


def _show_result(result: TrainingResult) -> None:
    epochs = counted(result.epochs, "epoch")
    st.success(f"{accuracy_in_words(result)} after {epochs} and {result.train_seconds:.1f} s.")
    path = Path(result.checkpoint)
    if path.exists():
        st.download_button("Download the checkpoint", path.read_bytes(), path.name, "application/octet-stream")
    if st.button("Try it on the page Draw"):
        st.session_state["student"] = path
        st.switch_page(draw.PAGE.as_entry())


PAGE = Page(show, "Train", "model_training")
