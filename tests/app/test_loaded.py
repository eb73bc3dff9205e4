"""Networks and data that the pages share."""

import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from kd_cli.app import compare, loaded, settings
from kd_cli.app.events import Measured
from kd_cli.config import Role
from kd_cli.data.dataset import DataInfo
from kd_cli.networks.checkpoint import checkpoint_path, find_checkpoint, load_checkpoint
from tests.app.conftest import Visit
from tests.app.images import html, plain
from tests.conftest import CommandLine
from tests.report.results import benchmark_result


def offer(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let a run have written its student there."""
    data = load("digits")
    run = Mock(output=path, data=data)
    run.name = "1: a small one"
    monkeypatch.setattr(loaded, "runs", lambda: Mock(students=lambda: [run], folder=path.parent))


def load(dataset: str) -> DataInfo:
    """What networks know of a data set."""
    path = find_checkpoint(Path("nowhere"), dataset, Role.student)
    return load_checkpoint(path, torch.device("cpu")).metadata.data


@pytest.mark.parametrize("damage", ["vanished", "damaged"])
@pytest.mark.parametrize("name", ["compare", "samples", "draw", "upload"])
def test_a_student_whose_file_vanished_or_is_damaged_is_a_line_and_disables_no_page(
    visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    path = tmp_path / "student-1.safetensors"
    if damage == "damaged":
        path.write_bytes(b"damaged")
    offer(monkeypatch, path)
    monkeypatch.setattr(compare, "carry_out", lambda *arguments: Measured(benchmark_result()))
    page = visit(name)
    page.selectbox[0].select(path).run()
    assert "gone or damaged" in plain(page.warning[0])
    assert not page.error
    assert "digits/student.safetensors" in html(page)


@pytest.mark.parametrize("role", Role)
def test_a_damaged_network_of_ones_own_is_a_line_and_the_shipped_one_is_used(
    visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    own = checkpoint_path(tmp_path, "digits", role)
    own.parent.mkdir(parents=True)
    own.write_bytes(b"damaged")
    monkeypatch.setattr(settings, "run", replace(settings.run, models_dir=tmp_path))
    page = visit("samples")
    assert f"digits/{role.value}.safetensors is damaged" in plain(page.warning[0])
    assert f"The {role.value} that ships with kd is used instead" in plain(page.warning[0])
    assert str(tmp_path) not in plain(page.warning[0])
    assert html(page).count("(ships with kd)") == 2


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("--lr 0: use a number above 0", "learning rate 0: use a number above 0"),
        ("needs labels: use --train-fraction 1", "needs labels: use train fraction 1"),
        ("run kd train-teacher --dataset kmnist", "run kd train-teacher --dataset kmnist"),
    ],
)
@pytest.mark.usefixtures("visit")
def test_errors_have_the_pages_words(message: str, shown: str) -> None:
    assert loaded.in_page_words(message) == shown


def test_networks_are_named_without_the_folders_of_the_server(
    visit: Visit, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "run", replace(settings.run, models_dir=tmp_path))
    assert "<code>digits/teacher.safetensors</code> (ships with kd)" in html(visit("samples"))
    own = tmp_path / "digits" / "teacher.safetensors"
    own.parent.mkdir()
    shutil.copy(shipped / "digits" / "teacher.safetensors", own)
    assert "<code>digits/teacher.safetensors</code></li>" in html(visit("samples"))


@pytest.mark.parametrize("name", ["compare", "samples"])
def test_a_student_that_was_trained_on_the_page_can_be_chosen(
    kd: CommandLine, visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "student-1.safetensors"
    assert kd("distill", "--dataset", "digits", "--student", "mlp-8", "--epochs", 1, "--output", path)[0] == 0
    offer(monkeypatch, path)
    monkeypatch.setattr(compare, "carry_out", lambda *arguments: Measured(benchmark_result()))
    page = visit(name)
    assert path.name not in html(page)
    page.selectbox[0].select(path).run()
    assert f"<code>{path.name}</code>" in html(page)


def test_without_mnist_the_pages_use_the_bundled_digits_and_say_so(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setattr(settings, "data", replace(settings.data, dataset="auto"))
    page = visit("samples")
    assert "bundled digits" in page.warning[0].value
    assert "digits/teacher.safetensors" in html(page)


def test_images_of_visitors_are_predicted_by_mnists_networks_even_without_mnist(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    monkeypatch.setattr(settings, "data", replace(settings.data, dataset="auto"))
    assert "mnist/teacher.safetensors" in html(visit("draw"))


def test_a_missing_network_is_a_message(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "data", replace(settings.data, dataset="kmnist"))
    assert "run kd train-teacher --dataset kmnist" in plain(visit("draw").error[0])
