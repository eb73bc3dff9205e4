"""Distil a student for a few epochs, and watch."""

from pathlib import Path
from typing import Any

import streamlit as st

from kd_cli.app import draw, loaded, show
from kd_cli.app.run import Run, trainings
from kd_cli.methods import METHODS, Choice, MethodName, choose, require_possible
from kd_cli.report import accuracy_in_words, counted
from kd_cli.settings import Role, TrainingSettings, parse_spec

PAGE: dict[str, Any] = {"title": "Train", "icon": ":material/model_training:", "url_path": "train"}

REFRESH = 0.5
"""Seconds between two looks at a run."""

DEFAULTS = TrainingSettings()
MOST_EPOCHS = 60


def page() -> None:
    """The page Train."""
    st.title("Distil a student")
    with loaded.failures_shown():
        dataset, networks = loaded.for_testing()
    teacher = networks[Role.teacher]
    st.html(
        f"<p>What <code>kd distill</code> does, on {dataset.name.value}: a fresh student learns from the teacher. "
        "One run at a time on this server. The result is kept until the server ends.</p>"
    )
    name, options, job = _settings()
    run = trainings().latest
    busy = run is not None and run.running
    if st.button("Start", disabled=busy):
        with loaded.failures_shown():
            choice = choose(name, options)
            require_possible(choice, parse_spec(job["student"]), [teacher.metadata.architecture])
            where = {"data_dir": str(loaded.place().data_dir), "models_dir": str(loaded.place().models_dir)}
            job |= where | {"dataset": dataset.name.value, "method": name.value, "options": options}
            trainings().start(_title(job, choice), job)
        st.rerun()
    if run:
        if busy:
            st.fragment(_watch, run_every=REFRESH)(run)
        else:
            _outcome(run)
    st.html(show.sources([teacher]))


def _settings() -> tuple[MethodName, dict[str, float | None], dict[str, Any]]:
    left, middle, right = st.columns(3)
    with left:
        methods = [each.value for each in MethodName]
        name = MethodName(st.selectbox("Method", methods, methods.index("kd"), format_func=_describe))
        student = st.text_input("Student", "mlp-128", help="cnn-N has N filters; mlp-N has N hidden units.")
    options: dict[str, float | None] = {}
    with middle:
        for option, default in METHODS[name].options.items():
            most = 1.0 if option == "alpha" else None
            least = 0.0 if option == "alpha" else 0.01
            options[option] = st.number_input(
                option.capitalize(), least, most, float(default), key=f"{name.value} {option}"
            )
        if not METHODS[name].options:
            st.html("<p>This method has no options.</p>")
    with right:
        epochs = st.number_input("Epochs", 1, MOST_EPOCHS, 3)
        lr = st.number_input("Peak learning rate", 1e-5, 1.0, DEFAULTS.lr, format="%.5f")
        seed = st.number_input("Seed", 0, 2**32 - 1, DEFAULTS.seed)
    augment = st.checkbox("Move every picture by up to 2 pixels, anew in every epoch")
    settings: dict[str, Any] = {"epochs": epochs, "lr": lr, "seed": seed, "augment": augment}
    settings |= {"batch_size": DEFAULTS.batch_size, "schedule": DEFAULTS.schedule.value}
    return name, options, {"student": student, "settings": settings}


def _describe(name: str) -> str:
    return f"{name}: {METHODS[MethodName(name)].source}"


def _title(job: dict[str, Any], choice: Choice) -> str:
    return f"{job['student']} on {job['dataset']}, {choice}, {counted(job['settings']['epochs'], 'epoch')}"


def _watch(run: Run) -> None:
    """How far the training is. Runs by itself, again and again, while it goes on."""
    if not run.running:
        st.rerun()  # the whole page: a button in here could be gone before its click arrives
    st.html(show.heading(f"Run {run.name}"))
    if run.total_steps:
        state = "Stopping after this epoch" if run.stopping else "Training"
        st.progress(run.step / run.total_steps, f"{state}: step {run.step:,} of {run.total_steps:,}")
    else:
        st.progress(0.0, "Starting, and asking the teacher about all training pictures")
    if not run.stopping and st.button("Stop after this epoch"):
        run.stop()
        st.rerun(scope="fragment")
    if run.stopping and st.button("Stop now, and keep nothing"):
        run.end()
    _curves(run)


def _outcome(run: Run) -> None:
    """What came of a training that has ended."""
    st.html(show.heading(f"Run {run.name}"))
    _curves(run)
    if run.error:
        st.error(show.as_markdown(run.error))
    if run.result:
        _result(run.result)


def _curves(run: Run) -> None:
    """Loss and accuracy over the steps: of the training pictures, and of the test pictures after each epoch."""
    left, right = st.columns(2)
    rows = {"training, epoch so far": run.training, "test set": run.test}
    points = [{"of": of} | point for of, points in rows.items() for point in points]
    if points:
        with left:
            st.html(show.heading("Training loss, mean over the epoch so far", 3))
            st.vega_lite_chart(_chart(points, "loss", "Loss"))
        with right:
            st.html(show.heading("Accuracy", 3))
            st.vega_lite_chart(_chart(points, "accuracy", "Accuracy"))


def _chart(points: list[dict[str, Any]], name: str, title: str) -> dict[str, Any]:
    """A Vega-Lite chart of a value over the steps; its axis need not begin at 0, where all is close to 1."""
    axis: dict[str, Any] = {"title": title, "format": ".1%" if name == "accuracy" else ".3~g"}
    y = {"field": name, "type": "quantitative", "scale": {"zero": name == "loss"}, "axis": axis}
    colours = {"domain": ["training, epoch so far", "test set"], "range": ["#3b82c4", "#c8682f"]}
    colour: dict[str, Any] = {"field": "of", "title": None, "scale": colours, "legend": None}
    if name == "accuracy":
        colour["legend"] = {"orient": "top"}
    return {
        "height": 320,
        "data": {"values": [point for point in points if name in point]},
        "description": f"{title} over the training steps",
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "step", "type": "quantitative", "axis": {"title": "Step", "tickMinStep": 1}},
            "y": y,
            "color": colour,
        },
    }


def _result(result: dict[str, Any]) -> None:
    st.success(
        f"{accuracy_in_words(result)} after {counted(result['epochs'], 'epoch')} and {result['train_seconds']:.1f} s."
    )
    path = Path(result["checkpoint"])
    if path.exists():
        st.download_button("Download the checkpoint", path.read_bytes(), path.name, "application/octet-stream")
    if st.button("Try it on the page Draw"):
        st.session_state["student"] = path
        st.switch_page(st.Page(draw.page, **draw.PAGE))
