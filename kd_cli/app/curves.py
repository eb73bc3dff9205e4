"""Loss and accuracy of a training run over its steps, as charts."""

from typing import Any

import streamlit as st

from kd_cli.app import markup
from kd_cli.app.run import Run
from kd_cli.training.loop import REFRESH

TRAINING, TEST = "training images", "test images"

COLOURS, SHAPES = ["#3b82c4", "#c8682f"], ["circle", "square"]
"""Of the two curves; the legend has them in the style sheet."""

AXIS_WIDTH = 60
"""Pixels left of each chart for the axis and its title: the same for both, so that the charts align."""


def show(run: Run) -> None:
    """Loss and accuracy, side by side, and what the curves are; nothing before there is a point."""
    training = [
        {"of": TRAINING, "step": each.step, "loss": each.loss, "accuracy": each.accuracy} for each in run.progress
    ]
    test = [{"of": TEST, "step": each.step, "accuracy": each.accuracy} for each in run.tests]
    if not training:
        return
    st.html(
        f'<ul class="kd-legend"><li>{TRAINING.capitalize()}: mean of the latest steps, at most {REFRESH}</li>'
        f"<li>{TEST.capitalize()}: after each epoch</li></ul>"
    )
    left, right = st.columns(2)
    with left:
        st.html(markup.heading("Loss", 3))
        st.vega_lite_chart(_chart(training, "loss"))
    with right:
        st.html(markup.heading("Accuracy", 3))
        st.vega_lite_chart(_chart(training + test, "accuracy"))


def _chart(points: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """A Vega-Lite chart of a value over the steps. Its axis need not begin at 0: accuracies are close to 1."""
    axis = {
        "title": name.capitalize(),
        "format": ".1%" if name == "accuracy" else ".3~g",
        "minExtent": AXIS_WIDTH,
        "maxExtent": AXIS_WIDTH,
    }
    return {
        "height": 300,
        "data": {"values": points},
        "description": f"{name.capitalize()} over the training steps",
        "mark": {"type": "line", "point": {"size": 40}},
        "encoding": {
            "x": {"field": "step", "type": "quantitative", "axis": {"title": "Step", "tickMinStep": 1}},
            "y": {"field": name, "type": "quantitative", "scale": {"zero": name == "loss"}, "axis": axis},
            "color": {"field": "of", "scale": {"domain": [TRAINING, TEST], "range": COLOURS}, "legend": None},
            "shape": {"field": "of", "scale": {"domain": [TRAINING, TEST], "range": SHAPES}, "legend": None},
        },
    }
