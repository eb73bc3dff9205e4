"""The weights that come with the project."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kd_cli.commands.distill import distill
from kd_cli.commands.evaluate import evaluate
from kd_cli.commands.job import StudentConfig
from kd_cli.commands.results import EvaluatedModel
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import DataConfig, DeviceName, Role, RunConfig, TrainingConfig
from kd_cli.distillation.methods import FROM_LABELS
from kd_cli.networks.checkpoint import checkpoint_path, load_checkpoint
from kd_cli.networks.spec import parse_spec
from tests.conftest import DATA_DIR, ROOT

CPU = torch.device("cpu")


def evaluate_shipped(shipped: Path, name: str) -> dict[str, EvaluatedModel]:
    paths = [checkpoint_path(shipped, name, role) for role in Role]
    result = evaluate(paths, DataConfig(name, DATA_DIR), RunConfig(shipped, DeviceName.cpu))
    return {model.role: model for model in result.models}


@pytest.mark.parametrize(
    ("role", "architecture", "accuracy"), [("teacher", "cnn-32", 0.993), ("student", "mlp-128", 0.989)]
)
@pytest.mark.usefixtures("archives")
def test_mnist_networks_are_as_good_as_the_readme_says(
    shipped: Path, role: str, architecture: str, accuracy: float
) -> None:
    model = evaluate_shipped(shipped, "mnist")[role]
    assert model.architecture == architecture
    assert model.accuracy >= accuracy


@pytest.mark.parametrize(("role", "accuracy"), [("teacher", 0.98), ("student", 0.98)])
def test_digits_networks_classify_the_bundled_digits(shipped: Path, role: str, accuracy: float) -> None:
    assert evaluate_shipped(shipped, "digits")[role].accuracy >= accuracy


@pytest.mark.parametrize("name", ["mnist", "digits"])
@pytest.mark.parametrize("role", list(Role))
def test_a_checkpoint_says_how_it_was_trained(shipped: Path, name: str, role: Role) -> None:
    metadata = load_checkpoint(checkpoint_path(shipped, name, role), CPU).metadata
    assert (metadata.role, metadata.data.name) == (role, name)
    assert (metadata.data.classes, metadata.data.shape) == (tuple("0123456789"), (1, 28, 28))
    assert metadata.options.keys() >= {"epochs", "batch_size", "lr", "schedule", "augment", "method"}


@pytest.mark.usefixtures("archives")
def test_a_checkpoint_records_the_accuracy_that_it_has(shipped: Path) -> None:
    for role, model in evaluate_shipped(shipped, "mnist").items():
        recorded = load_checkpoint(checkpoint_path(shipped, "mnist", Role(role)), CPU).metadata.accuracy
        assert model.accuracy == pytest.approx(recorded, abs=2e-4)  # another processor may round two images over


@pytest.mark.slow
def test_the_wheel_brings_the_weights_to_any_folder(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel], check=True
    )
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from kd_cli.networks import checkpoint; from kd_cli.cli import main\n"
        f"assert checkpoint.shipped_models_dir().is_relative_to({str(site)!r})\n"
        "sys.exit(main(['benchmark', '--dataset', 'digits', '--json']))"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(model["shipped"] for model in json.loads(answer.stdout)["models"])
    assert (site / "kd_cli" / "py.typed").is_file()
    page = [path.relative_to(ROOT) for path in (ROOT / "kd_cli" / "html").rglob("*.*") if path.suffix != ".pyc"]
    assert len(page) > 20
    assert [path for path in page if not (site / path).exists()] == []


@pytest.mark.slow
@pytest.mark.usefixtures("archives")
def test_five_seeds_reach_the_accuracy_that_the_readme_promises(tmp_path: Path) -> None:
    data, run, student = DataConfig("mnist", DATA_DIR), RunConfig(tmp_path, DeviceName.cpu), parse_spec("mlp-128")
    accuracies: dict[str, list[float]] = {"teacher": [], "student": [], "from labels": []}
    for seed in range(5):
        training = TrainingConfig(seed=seed)
        config = StudentConfig(student, data=data, training=training, run=run)
        baseline = StudentConfig(student, FROM_LABELS, data=data, training=training, run=run)
        accuracies["teacher"].append(train_teacher(parse_spec("cnn-32"), data, training, run).accuracy)
        accuracies["student"].append(distill(config).accuracy)
        accuracies["from labels"].append(distill(baseline).accuracy)
    means = {name: sum(values) / len(values) for name, values in accuracies.items()}
    assert means["teacher"] >= 0.989
    assert means["student"] >= 0.982
    assert means["student"] > means["from labels"]
