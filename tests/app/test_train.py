"""The page Train, for the visitor who started a run and for others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import Mock

import pytest

from kd_cli.app import train
from kd_cli.app.events import Evaluated, Progressed
from kd_cli.commands.results import TrainingResult
from kd_cli.distillation.methods import METHODS, MethodConfig
from tests.app.conftest import Visit
from tests.app.images import html, plain
from tests.report.results import training_result


@dataclass
class FakeRun:
    """A run without a process."""

    owner: str = "me"
    running: bool = True
    stopping: bool = False
    name: str = "1: mlp-8"
    total_steps: int = 100
    step: int = 50
    progress: tuple[Progressed, ...] = (Progressed(50, 1.5, 0.5),)
    tests: tuple[Evaluated, ...] = (Evaluated(50, 0.6),)
    result: TrainingResult | None = None
    error: str | None = None
    stop: Mock = field(default_factory=Mock)
    kill: Mock = field(default_factory=Mock)


Watch = Callable[[FakeRun], Any]


@pytest.fixture
def watch(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Open the page as the visitor "me" while a run is the latest one; only "me" and "other" are here."""
    monkeypatch.setattr(train, "current_visitor", lambda: "me")
    monkeypatch.setattr(train, "is_here", lambda visitor: visitor in ("me", "other"))

    def open_page(run: FakeRun) -> Any:
        monkeypatch.setattr(train, "runs", lambda: Mock(latest=run, students=dict))
        page = visit("train")
        assert not page.exception
        return page

    return open_page


def buttons(page: Any) -> list[str]:
    return [button.label for button in page.button]


def test_the_owner_of_a_run_may_stop_it(watch: Watch) -> None:
    run = FakeRun()
    page = watch(run)
    assert buttons(page) == ["Start", "Stop after this epoch"]
    page.button[1].click().run()
    run.stop.assert_called_once()


def test_the_owner_of_a_run_that_is_stopping_may_end_it_at_once(watch: Watch) -> None:
    run = FakeRun(stopping=True)
    page = watch(run)
    page.button[1].click().run()
    run.kill.assert_called_once()


def test_another_visitor_sees_whose_turn_it_is_and_no_way_to_stop_the_run(watch: Watch) -> None:
    page = watch(FakeRun(owner="other"))
    assert buttons(page) == ["Start"]
    assert page.button[0].disabled
    assert "Another visitor started this run" in page.info[0].value


def test_a_run_whose_owner_has_left_may_be_stopped_knowingly(watch: Watch) -> None:
    page = watch(FakeRun(owner="gone"))
    assert "has left" in page.info[0].value
    assert buttons(page) == ["Start", "Stop after this epoch"]


def test_a_run_that_ended_shows_its_result_and_leaves_the_server_free(watch: Watch) -> None:
    page = watch(FakeRun(running=False, result=training_result()))
    assert "92.10%" in page.success[0].value
    assert not page.button[0].disabled


def test_a_run_that_failed_says_why(watch: Watch) -> None:
    assert plain(watch(FakeRun(running=False, error="no teacher")).error[0]) == "no teacher"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda page: page.text_input[0].set_value("resnet-50"), "unknown architecture"),
        (lambda page: page.text_input[0].set_value("mlp-65536"), "up to 5,000,000"),
        (lambda page: page.number_input(key="kd temperature").set_value(0.0), "--temperature 0"),
    ],
    ids=["unknown student", "large student", "option out of bounds"],
)
def test_what_cannot_be_or_is_too_much_does_not_start(visit: Visit, change: Callable[[Any], Any], message: str) -> None:
    page = visit("train")
    change(page).run()
    page.button[0].click().run()
    assert message in plain(page.error[0])
    assert "Run 1" not in html(page)


@pytest.mark.parametrize("method", METHODS)
def test_the_page_asks_for_the_options_of_the_method(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """And starts what was asked for."""
    started = Mock()
    monkeypatch.setattr(train, "runs", lambda: Mock(latest=None, start=started, students=dict))
    page = visit("train")
    page.selectbox[0].select(method).run()
    page.button[0].click().run()
    assert not page.exception
    _, config, _ = started.call_args.args
    assert config.method == MethodConfig(method)
    assert config.data.dataset == "digits"


def test_options_change_by_sensible_steps(visit: Visit) -> None:
    page = visit("train")
    steps = {each.label: each.step for each in page.number_input}
    assert steps == {"Temperature": 0.5, "Alpha": 0.05, "Epochs": 1, "Learning rate": 0.0005, "Seed": 1}
