"""The Python API, as a program uses it: with modules, tensors and torch's data sets."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import kd_cli
from kd_cli.config import ConfigError, KdError
from kd_cli.networks.onnx_file import OnnxNetwork
from kd_cli.training import memory, processes
from tests.conftest import ROOT
from tests.data.images import save

Pairs = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_images(count: int, classes: int = 3, shape: tuple[int, ...] = (3, 12, 16)) -> tuple[Tensor, Tensor]:
    """Images that differ in brightness from class to class."""
    labels = torch.arange(count) % classes
    noise = torch.rand(count, *shape, generator=torch.Generator().manual_seed(count))
    brightness = (labels / classes).view(-1, *[1] * len(shape))
    return 0.3 * noise + 0.7 * brightness, labels


@pytest.fixture
def pairs() -> Pairs:
    return make_images(240), make_images(60)


class Net(nn.Module):
    """A user's network."""

    def __init__(self, width: int = 16, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(x).relu().mean(dim=(2, 3)))
        return logits


FEW: dict[str, Any] = {"epochs": 4, "batch_size": 16, "lr": 0.01, "device": "cpu"}


@pytest.fixture
def teacher(pairs: Pairs) -> Any:
    return kd_cli.train_teacher(Net(), pairs, **FEW)


def test_a_module_learns_from_tensors(teacher: Any, pairs: Pairs) -> None:
    (_, _), (images, labels) = pairs
    assert teacher.result.fault is None
    assert teacher.accuracy > 0.9
    correct = (teacher.classifier(images.mul(255).round() / 255).argmax(dim=1) == labels).float().mean()
    assert float(correct) == pytest.approx(teacher.accuracy)


def test_what_was_handed_over_is_left_as_it_was(pairs: Pairs) -> None:
    student = Net(4)
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    trained = kd_cli.train_teacher(student, pairs, **FEW)
    assert all(before[name].equal(tensor) for name, tensor in student.state_dict().items())
    assert not before["head.weight"].equal(trained.classifier.network.state_dict()["head.weight"])


def test_a_module_teaches_a_module(teacher: Any, pairs: Pairs) -> None:
    student = kd_cli.distill(Net(4), teacher.classifier, pairs, temperature=2, **FEW)
    assert student.accuracy > 0.6
    assert student.result.method_options["temperature"] == 2
    evaluated = kd_cli.evaluate(student.classifier, teacher=teacher.classifier, data=pairs)
    first, second = evaluated.models
    assert (first.accuracy, second.accuracy) == (teacher.accuracy, student.accuracy)
    assert second.agreement is not None


@pytest.mark.usefixtures("short_measurements")
@pytest.mark.parametrize("runtimes", ["torch,onnx", pytest.param(("torch", "onnx"), marks=pytest.mark.slow)])
def test_modules_are_measured_in_runtimes(teacher: Any, pairs: Pairs, runtimes: Any) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX needs the extra 'export'")
    measured = kd_cli.benchmark(Net(4), teacher=teacher.classifier, data=pairs, runtimes=runtimes, device="cpu")
    assert measured.models[0].accuracy == teacher.accuracy
    assert [(row.role, row.runtime) for row in measured.runtimes] == [
        *(("teacher", "torch"), ("teacher", "onnx")),
        *(("student", "torch"), ("student", "onnx")),
    ]
    assert measured.failed == ()


def test_torch_data_sets_and_specs_are_taken_too(pairs: Pairs) -> None:
    train, test = (TensorDataset(*part) for part in pairs)
    trained = kd_cli.train_teacher("mlp-8", (train, test), **FEW)
    assert trained.accuracy == kd_cli.train_teacher("mlp-8", pairs, **FEW).accuracy
    assert trained.result.checkpoint == ""


def test_a_spec_can_be_saved_and_used_again(pairs: Pairs, tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    trained = kd_cli.train_teacher("mlp-8", pairs, output=path, **FEW)
    (evaluated,) = kd_cli.evaluate(path, data=pairs).models
    assert evaluated.accuracy == trained.accuracy
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in folders named after their classes, as a user has them."""
    images, labels = make_images(90)
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        pixels = image.mul(255).byte().permute(1, 2, 0).numpy()
        save(tmp_path / "images" / f"class {label}" / f"{number}.png", pixels)
    return tmp_path / "images"


def test_a_folder_is_data_and_a_path_is_a_teacher(folder: Path, tmp_path: Path) -> None:
    teacher, student = tmp_path / "teacher.safetensors", tmp_path / "student.safetensors"
    data: dict[str, Any] = {"data": folder, "data_dir": tmp_path / "prepared"}
    kd_cli.train_teacher("mlp-8", output=teacher, **data, **FEW)
    distilled = kd_cli.distill("mlp-8", teacher, output=student, **data, **FEW)
    assert (distilled.result.teachers, distilled.result.checkpoint) == ((str(teacher),), str(student))
    first, second = kd_cli.evaluate(student, teacher=teacher, **data).models
    assert (first.checkpoint, second.accuracy) == (str(teacher), distilled.accuracy)
    result = kd_cli.predict(*sorted(folder.rglob("*.png")), teacher=teacher, student=student, top=1)
    assert [model.checkpoint for model in result.models] == [str(teacher), str(student)]
    correct = [image.student and image.student.label == Path(image.file).parent.name for image in result.images]
    assert sum(map(bool, correct)) > 60
    assert result.images[0].teacher
    assert len(result.images[0].teacher.top) == 1


def test_a_name_is_data(tmp_path: Path) -> None:
    trained = kd_cli.train_teacher("mlp-8", "digits", data_dir=tmp_path, **FEW)
    assert (trained.result.dataset, trained.result.test_images) == ("digits", 500)


def test_a_comparison_makes_a_fresh_student_for_each_seed(teacher: Any, pairs: Pairs) -> None:
    result = kd_cli.compare(lambda: Net(4), teacher.classifier, pairs, methods=["kd", "fitnet"], seeds=2, **FEW)
    assert [cell.method for cell in result.cells] == ["labels", "kd", "fitnet"]
    assert all(len(cell.runs) == 2 for cell in result.cells)
    assert not result.failed


def test_a_study_tunes_modules(teacher: Any, pairs: Pairs) -> None:
    pytest.importorskip("optuna", reason="needs the extra 'tune'")
    few = {name: value for name, value in FEW.items() if name != "lr"}
    result = kd_cli.tune(lambda: Net(4), teacher.classifier, pairs, methods=["kd"], trials=3, seeds=2, **few)
    assert [(row.method, row.trials, len(row.runs)) for row in result.rows] == [("labels", 3, 2), ("kd", 3, 2)]
    assert result.settings == ""
    assert not result.failed


def test_a_study_of_specs_leaves_settings_for_a_comparison(pairs: Pairs, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs the extra 'tune'")
    more = {name: value for name, value in FEW.items() if name != "lr"} | {"seeds": 2, "results_dir": tmp_path}
    teacher = tmp_path / "teacher.safetensors"
    kd_cli.train_teacher("mlp-8", pairs, output=teacher, **FEW)
    tuned = kd_cli.tune("mlp-4", teacher, pairs, trials=2, **more)
    compared = kd_cli.compare(teacher=teacher, data=pairs, from_study=tuned.settings, **more)
    assert [cell.options for cell in compared.cells] == [row.options for row in tuned.rows]
    assert compared.runs.carried_out == 0


def test_nothing_is_printed_and_no_file_is_left(
    pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    kd_cli.train_teacher("mlp-8", pairs, **FEW)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_diverges_speaks_of_no_file_that_is_gone(pairs: Pairs) -> None:
    with pytest.raises(KdError, match="the loss became") as raised:
        kd_cli.train_teacher("mlp-8", pairs, **FEW | {"lr": 1e30})
    assert "resume" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((make_images(8), make_images(8, shape=(3, 12, 12))), "bring them to one shape"),
        (((torch.randn(8, 1, 4, 4), torch.arange(8)), make_images(8)), "before any normalisation"),
        (((torch.rand(8, 1, 4, 4), torch.zeros(8)), (torch.rand(8, 1, 4, 4), torch.zeros(8))), "2 or more classes"),
        (((torch.rand(8, 1, 4, 4), torch.arange(7)), make_images(8)), "with labels of shape"),
        (((torch.rand(0, 1, 4, 4), torch.zeros(0)), make_images(8)), "with labels of shape"),
    ],
)
def test_images_that_cannot_be_used_are_refused(data: Pairs, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        kd_cli.train_teacher("mlp-8", data)


def test_an_option_that_does_not_exist_gets_the_nearest_name(pairs: Pairs) -> None:
    with pytest.raises(ConfigError, match="did you mean epochs"):
        kd_cli.train_teacher("mlp-8", pairs, epoch=3)


def test_a_module_cannot_be_saved_under_a_name_that_brings_it_back(pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="factory"):
        kd_cli.train_teacher(Net(), pairs, output=tmp_path / "net.safetensors", **FEW)


def test_a_programs_memory_is_handed_out_as_before(teacher: Any, pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = Mock()
    for room in (memory, processes):
        monkeypatch.setattr(room, "keep_freed_memory", keep)
    kd_cli.compare(Net(4), teacher.classifier, pairs, seeds=1, **FEW | {"epochs": 1})
    kd_cli.distill(Net(4), teacher.classifier, pairs, **FEW | {"epochs": 1})
    keep.assert_not_called()


def test_importing_the_package_imports_no_torch() -> None:
    code = "import kd_cli, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_module_may_bring_a_normalisation_of_its_own(pairs: Pairs) -> None:
    class Mean(nn.Module):
        """Sure of class 2 where the normalised images are above zero."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(20.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * nn.functional.one_hot((x.mean(dim=(1, 2, 3)) > 0).long() * 2, 3)

    agreement = {}
    for mean in ("0.5", "-1"):
        teacher = kd_cli.distill("mlp-8", Mean(), pairs, teacher_mean=mean, teacher_std="1", method="kl", **FEW)
        pixels = pairs[1][0]
        agreement[mean] = float((teacher.classifier(pixels).argmax(dim=1) == 2).float().mean())
    assert agreement["-1"] == 1  # all images are above its mean
    assert agreement["0.5"] < 0.9


class FewImages:
    """A stand-in for torchvision's CIFAR10, with images as PIL has them."""

    classes = tuple("abcdefghij")

    def __init__(self, root: str, train: bool, download: bool = False) -> None:
        images, self.labels = make_images(40 if train else 20, 10, (32, 32, 3))
        self.images = images.mul(255).byte().numpy()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), int(self.labels[index])


def test_the_script_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = (ROOT / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.setattr("torchvision.datasets.CIFAR10", FewImages)
    monkeypatch.chdir(tmp_path)
    exec(script, {"__name__": "readme"})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["labels", "kd", "dkd"]
    assert torch.load("student.pth", weights_only=True)["3.bias"].shape == (10,)


class TestExport:
    """`kd_cli.export`, of what a program has at hand."""

    def test_a_module_computes_the_same_elsewhere(self, teacher: Any, pairs: Pairs, tmp_path: Path) -> None:
        result = kd_cli.export(teacher.classifier, tmp_path / "net.onnx", pairs)
        (_, _), (images, _) = pairs
        logits = OnnxNetwork(tmp_path / "net.onnx")(images.numpy())
        torch.testing.assert_close(torch.from_numpy(logits), teacher.classifier(images), rtol=0, atol=1e-4)
        assert (result.accuracy, result.original_accuracy) == (teacher.accuracy, teacher.accuracy)

    def test_the_file_predicts_alone(self, teacher: Any, pairs: Pairs, tmp_path: Path) -> None:
        kd_cli.export(teacher.classifier, tmp_path / "net.onnx", pairs)
        photo = save(tmp_path / "photo.png", (pairs[1][0][0] * 255).byte().permute(1, 2, 0).numpy())
        (image,) = kd_cli.predict(photo, model=tmp_path / "net.onnx").images
        (other,) = kd_cli.predict(photo, model=teacher.classifier, data=pairs).images
        assert image.student is not None
        assert other.student is not None
        assert image.student.probabilities == pytest.approx(other.student.probabilities, abs=1e-5)
        assert image.teacher is None

    def test_options_are_those_of_the_command(self, teacher: Any, pairs: Pairs, tmp_path: Path) -> None:
        result = kd_cli.export(teacher.classifier, tmp_path / "net", pairs, format="pt2", half=True)
        assert (result.format, result.precision) == ("pt2", "float16")
        with pytest.raises(ConfigError, match="unknown option 'eight'"):
            kd_cli.export(teacher.classifier, tmp_path / "net", pairs, eight=True)
        with pytest.raises(ConfigError, match="output: say which file"):
            kd_cli.export(teacher.classifier, data=pairs)

    def test_a_module_that_computes_otherwise_when_it_is_traced_is_refused(self, pairs: Pairs, tmp_path: Path) -> None:
        class Otherwise(Net):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x) + (0.01 if torch.compiler.is_compiling() else 0)

        with pytest.raises(KdError, match=r"net\.onnx is not written: its logits would differ by up to 0\.01"):
            kd_cli.export(Otherwise(), tmp_path / "net.onnx", pairs)
        assert list(tmp_path.iterdir()) == []
