"""Networks and data that the pages share."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from kd_cli.app import compare, loaded
from kd_cli.app.events import Measured
from tests.app.conftest import Visit
from tests.app.images import html, plain
from tests.conftest import CommandLine
from tests.report.results import benchmark_result


@pytest.mark.parametrize("name", ["compare", "samples"])
def test_a_student_that_was_trained_on_the_page_can_be_chosen(
    kd: CommandLine, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "student-1.safetensors"
    assert kd("distill", "--dataset", "digits", "--student", "mlp-8", "--epochs", 1, "--output", path)[0] == 0
    monkeypatch.setattr(loaded, "runs", lambda: Mock(students=lambda: {path: "1: a small one"}))
    monkeypatch.setattr(compare, "carry_out", lambda *arguments: Measured(benchmark_result()))
    page = visit(name)
    assert str(path) not in html(page)
    page.selectbox[0].select(path).run()
    assert str(path) in html(page)


def test_without_mnist_the_pages_use_the_bundled_digits_and_say_so(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setenv("KD_DATASET", "auto")
    page = visit("samples")
    assert "bundled digits" in page.warning[0].value
    assert "digits/teacher.safetensors" in html(page)


def test_images_of_visitors_are_predicted_by_mnists_networks_even_without_mnist(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setenv("KD_DATASET", "auto")
    assert "mnist/teacher.safetensors" in html(visit("draw"))


def test_a_missing_network_is_a_message(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_DATASET", "kmnist")
    assert "run kd train-teacher --dataset kmnist" in plain(visit("draw").error[0])
