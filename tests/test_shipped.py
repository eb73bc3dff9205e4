"""The weights that come with the project."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kd_cli import measure, recipes
from kd_cli.checkpoint import load_checkpoint, path_for
from kd_cli.context import Place
from kd_cli.data import Dataset
from kd_cli.methods import FROM_LABELS, MethodName, choose
from kd_cli.settings import DatasetName, DeviceName, Role, TrainingSettings, parse_spec
from tests.conftest import DATA_DIR, ROOT


def evaluate(shipped: Path, name: DatasetName) -> dict[str, Any]:
    place = Place(name, DATA_DIR, shipped, DeviceName.cpu)
    models = measure.evaluate(place, [path_for(shipped, name, role) for role in Role])["models"]
    return {model["role"]: model for model in models}


@pytest.mark.parametrize(
    ("role", "architecture", "accuracy"), [("teacher", "cnn-32", 0.993), ("student", "mlp-128", 0.989)]
)
def test_shipped_mnist_networks_are_as_good_as_the_readme_says(
    mnist: Dataset, shipped: Path, role: str, architecture: str, accuracy: float
) -> None:
    model = evaluate(shipped, DatasetName.mnist)[role]
    assert model["architecture"] == architecture
    assert model["accuracy"] >= accuracy


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_shipped_digits_networks_read_the_bundled_digits(shipped: Path, role: str) -> None:
    assert evaluate(shipped, DatasetName.digits)[role]["accuracy"] >= 0.98


@pytest.mark.parametrize("name", [DatasetName.mnist, DatasetName.digits])
@pytest.mark.parametrize("role", list(Role))
def test_shipped_checkpoint_says_how_it_was_trained(shipped: Path, name: DatasetName, role: Role) -> None:
    metadata = load_checkpoint(path_for(shipped, name, role), torch.device("cpu")).metadata
    assert (metadata.role, metadata.dataset) == (role, name)
    assert metadata.options.keys() >= {"epochs", "batch_size", "lr", "schedule", "augment", "method"}


def test_shipped_checkpoint_records_the_accuracy_that_it_has(mnist: Dataset, shipped: Path) -> None:
    for role, model in evaluate(shipped, DatasetName.mnist).items():
        path = path_for(shipped, DatasetName.mnist, Role(role))
        recorded = load_checkpoint(path, torch.device("cpu")).metadata.accuracy
        assert model["accuracy"] == pytest.approx(recorded, abs=2e-4)  # another processor may round two pictures over


@pytest.mark.slow
def test_wheel_brings_the_weights_and_reads_a_picture_from_any_folder(tmp_path: Path) -> None:
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
        "from kd_cli import checkpoint; from kd_cli.cli import main\n"
        f"assert checkpoint.shipped_models_dir().is_relative_to({str(site)!r})\n"
        "sys.exit(main(['benchmark', '--dataset', 'digits', '--json']))"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(model["shipped"] for model in json.loads(answer.stdout)["models"])


@pytest.mark.slow
def test_five_seeds_reach_the_accuracy_that_the_readme_promises(mnist: Dataset, tmp_path: Path) -> None:
    place = Place(DatasetName.mnist, DATA_DIR, tmp_path, DeviceName.cpu)
    accuracies: dict[str, list[float]] = {"teacher": [], "student": [], "from labels": []}
    for seed in range(5):
        settings = TrainingSettings(seed=seed)
        student = parse_spec("mlp-128")
        accuracies["teacher"].append(recipes.train_teacher(place, parse_spec("cnn-32"), settings)["accuracy"])
        accuracies["student"].append(recipes.distill(place, student, settings, choose(MethodName.kd, {}))["accuracy"])
        accuracies["from labels"].append(recipes.distill(place, student, settings, FROM_LABELS)["accuracy"])
    means = {name: sum(values) / len(values) for name, values in accuracies.items()}
    assert means["teacher"] >= 0.989
    assert means["student"] >= 0.981
    assert means["student"] > means["from labels"]
