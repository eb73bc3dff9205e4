"""The charts of a training run."""

from types import SimpleNamespace
from typing import Any

import pytest
import streamlit

from kd_cli.app import curves


@pytest.fixture
def charts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Those of a run that was looked at twice and tested once."""
    shown: list[dict[str, Any]] = []
    monkeypatch.setattr(streamlit, "vega_lite_chart", shown.append)
    run: Any = SimpleNamespace(
        progress=[SimpleNamespace(step=step, loss=2.0, accuracy=0.5) for step in (50, 100)],
        tests=[SimpleNamespace(step=100, accuracy=0.7)],
    )
    curves.show(run)
    return shown


def test_plot_areas_of_loss_and_accuracy_align(charts: list[dict[str, Any]]) -> None:
    axes = [chart["encoding"]["y"]["axis"] for chart in charts]
    assert [axis["title"] for axis in axes] == ["Loss", "Accuracy"]
    assert len({axis[name] for axis in axes for name in ("minExtent", "maxExtent")}) == 1


def test_accuracy_is_shown_for_training_and_for_test_images(charts: list[dict[str, Any]]) -> None:
    points = [(each["of"], each["step"], each["accuracy"]) for each in charts[1]["data"]["values"]]
    assert points == [("training images", 50, 0.5), ("training images", 100, 0.5), ("test images", 100, 0.7)]
