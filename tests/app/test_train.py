"""The page Train, for the visitor who started a run and for others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from kd_cli.app import train
from kd_cli.app.events import Evaluated, Progressed
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.results import TrainingResult
from kd_cli.config import TrainingConfig
from kd_cli.distillation.methods import METHODS, MethodConfig
from kd_cli.networks.spec import parse_spec
from tests.app.conftest import Visit
from tests.app.images import html, plain
from tests.report.results import training_result

CONFIG = StudentConfig(parse_spec("mlp-8"), training=TrainingConfig(epochs=3))


@dataclass
class FakeRun:
    """A run without a process."""

    config: StudentConfig = CONFIG
    output: Path = Path("gone.safetensors")
    owner: str = "me"
    running: bool = True
    ended: bool = False
    stopping: bool = False
    cancelled: bool = False
    name: str = "1: mlp-8"
    total_steps: int = 100
    step: int = 50
    progress: tuple[Progressed, ...] = (Progressed(50, 1.5, 0.5),)
    tests: tuple[Evaluated, ...] = (Evaluated(50, 0.6),)
    result: TrainingResult | None = None
    error: str | None = None
    end: Mock = field(default_factory=Mock)
    cancel: Mock = field(default_factory=Mock)


def ended(tmp_path: Path | None = None, **values: Any) -> FakeRun:
    """A run of the visitor's that is over."""
    output = Path("gone.safetensors")
    if tmp_path:
        output = tmp_path / "student.safetensors"
        output.write_bytes(b"weights")
    return FakeRun(output=output, running=False, ended=True, **values)


Watch = Callable[..., Any]


@pytest.fixture
def watch(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Open the page as the visitor "me", among these runs."""
    monkeypatch.setattr(train, "current_visitor", lambda: "me")

    def open_page(*runs: FakeRun) -> Any:
        latest = next((run for run in runs if run.ended and run.owner == "me"), None)
        stand_in = Mock(students=list)
        stand_in.unfinished = lambda: [run for run in runs if not run.ended]
        stand_in.latest_of = lambda owner: latest
        monkeypatch.setattr(train, "runs", lambda: stand_in)
        page = visit("train")
        assert not page.exception
        return page

    return open_page


def button(page: Any, label: str) -> Any:
    (found,) = [each for each in page.button if each.label == label]
    return found


def labels(page: Any) -> set[str]:
    return {each.label for each in page.button}


def test_the_owner_of_a_run_may_stop_it(watch: Watch) -> None:
    run = FakeRun()
    page = watch(run)
    assert labels(page) == {"Start", "Stop after this epoch"}
    button(page, "Stop after this epoch").click().run()
    run.end.assert_called_once()


def test_the_owner_of_a_run_that_is_stopping_may_end_it_at_once(watch: Watch) -> None:
    run = FakeRun(stopping=True)
    button(watch(run), "Stop now, and keep nothing").click().run()
    run.cancel.assert_called_once()


def test_a_visitor_sees_the_queue_and_can_take_their_own_run_out(watch: Watch) -> None:
    mine = FakeRun(running=False, name="2: mlp-16")
    page = watch(FakeRun(owner="other"), mine, FakeRun(owner="third", running=False, name="3: cnn-8"))
    shown = html(page)
    assert "Run 1: mlp-8 (another visitor's): goes on now" in shown.replace("&#x27;", "'")
    assert "Run 2: mlp-16 (yours): number 1 of those that wait" in shown
    assert labels(page) == {"Start", "Take out of the queue"}
    button(page, "Take out of the queue").click().run()
    mine.end.assert_called_once()


def test_a_click_on_a_run_that_has_begun_meanwhile_is_not_lost(watch: Watch) -> None:
    mine = FakeRun(running=False)
    page = watch(mine)
    waiting = button(page, "Take out of the queue")
    mine.running = True
    running = button(page.run(), "Stop after this epoch")
    assert running.id == waiting.id  # what the browser sends for the one, the server takes for the other
    waiting.click().run()
    mine.end.assert_called_once()


def test_nobody_stops_another_visitors_run_and_start_stays_open_to_all(watch: Watch) -> None:
    page = watch(FakeRun(owner="other"))
    assert labels(page) == {"Start"}
    assert not button(page, "Start").disabled


def test_a_run_that_ended_shows_its_result(watch: Watch, tmp_path: Path) -> None:
    page = watch(ended(tmp_path, result=training_result(epochs=3)))
    assert "92.10%" in page.success[0].value
    assert "Try it on the page Draw" in labels(page)


def test_the_outcome_stands_above_what_the_page_asks_for(watch: Watch, tmp_path: Path) -> None:
    page = watch(ended(tmp_path, result=training_result(epochs=3)))
    above, asking = [each for each in page.main.children.values() if each.type == "flex_container"][:2]
    assert above.success
    assert asking.button[0].label == "Start"


def test_a_stopped_run_says_how_far_it_came(watch: Watch, tmp_path: Path) -> None:
    page = watch(ended(tmp_path, result=training_result(epochs=2)))
    assert "Stopped after 2 of 3 epochs" in page.info[0].value
    assert not page.success


@pytest.mark.parametrize("epochs", [2, 3])
def test_a_run_that_the_command_line_would_refuse_is_no_success(watch: Watch, tmp_path: Path, epochs: int) -> None:
    fault = "the training loss rose from 2.3 to 7: use a smaller --lr, e.g. --lr 0.001"
    page = watch(ended(tmp_path, result=training_result(epochs=epochs, fault=fault)))
    assert "the training loss rose from 2.3 to 7: use a smaller learning rate" in plain(page.warning[0])
    assert not page.success
    assert not page.info


def test_a_run_that_was_cancelled_is_no_error(watch: Watch) -> None:
    page = watch(ended(cancelled=True))
    assert "You stopped this run" in page.info[0].value
    assert not page.error


def test_a_student_whose_file_vanished_is_a_line(watch: Watch) -> None:
    page = watch(ended(result=training_result(epochs=3)))
    assert "file is gone" in page.warning[0].value


def test_a_run_that_failed_says_why(watch: Watch) -> None:
    assert plain(watch(ended(error="no teacher")).error[0]) == "no teacher"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda page: page.text_input[0].set_value("resnet-x"), "unknown architecture"),
        (lambda page: page.text_input[0].set_value("torchvision:resnet18"), "this page trains"),
        (lambda page: page.text_input[0].set_value("os:system"), "this page trains"),
        (lambda page: page.text_input[0].set_value("/tmp/net.py:build"), "this page trains"),
        (lambda page: page.text_input[0].set_value("mlp-65536"), "up to 5,000,000"),
        (lambda page: page.number_input(key="kd temperature").set_value(0.0), "temperature 0"),
    ],
    ids=[
        "unknown student",
        "network of torchvision",
        "code of a module",
        "code of a file",
        "large student",
        "option out of bounds",
    ],
)
def test_what_cannot_be_or_is_too_much_does_not_start(visit: Visit, change: Callable[[Any], Any], message: str) -> None:
    page = visit("train")
    change(page).run()
    page.button[0].click().run()
    assert message in plain(page.error[0])
    assert "--" not in plain(page.error[0])
    assert "Run 1" not in html(page)


@pytest.mark.parametrize("method", METHODS)
def test_the_page_asks_for_the_options_of_the_method(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """And starts what was asked for."""
    started = Mock()
    stand_in = Mock(add=started, students=list, unfinished=list, latest_of=lambda owner: None)
    monkeypatch.setattr(train, "runs", lambda: stand_in)
    page = visit("train")
    page.selectbox[0].select(method).run()
    page.button[0].click().run()
    assert not page.exception
    config = started.call_args.args[1]
    assert config.method == MethodConfig(method)
    assert config.data.dataset == "digits"


def test_options_change_by_sensible_steps(visit: Visit) -> None:
    page = visit("train")
    steps = {each.label: each.step for each in page.number_input}
    assert steps == {"Temperature": 0.5, "Alpha": 0.05, "Epochs": 1, "Learning rate": 0.0005, "Seed": 1}
