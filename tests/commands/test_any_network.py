"""Any network on any images: the same commands, from training to every report."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kd_cli.commands.job import StudentConfig
from kd_cli.commands.network_files import require_fit
from kd_cli.commands.resolve import resolve_student, resolve_teacher
from kd_cli.config import DataConfig, DeviceConfig, DeviceName, KdError, TrainingConfig
from kd_cli.data.dataset import DataInfo, Dataset, Split
from kd_cli.distillation.methods import MethodConfig
from kd_cli.networks.build import build_network
from kd_cli.networks.checkpoint import Checkpoint, load_checkpoint
from kd_cli.networks.classifier import build_classifier
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.spec import parse_spec
from tests.conftest import DATA_DIR, CommandLine, read_json
from tests.data.images import make_folder, noise, save
from tests.sources import register

CPU = torch.device("cpu")
USERS = "tests.networks.users"
OURS = ("--dataset", "ours", "--data-dir", "data", "--device", "cpu")
QUICK = ("--epochs", "1", "--force")


def make(classes: int, channels: int, count: int = 0) -> Dataset:
    """Noise of 24x40 pixels, as bright as its class is far in the list."""
    labels = torch.arange(count or max(2 * classes, 64)) % classes
    noise = torch.rand(len(labels), channels, 24, 40) * 55
    images = (noise + 200 * labels.view(-1, 1, 1, 1) / classes).to(torch.uint8)
    info = DataInfo("ours", tuple(f"class {i}" for i in range(classes)), (channels, 24, 40), (0.5,), (0.3,), "")
    return Dataset(info, Split(images, labels), Split(images, labels))


@pytest.mark.usefixtures("short_measurements")
@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (37, 4), pytest.param(1000, 3, marks=pytest.mark.slow)])
def test_every_command_takes_images_and_networks_of_any_kind(
    kd: CommandLine, monkeypatch: pytest.MonkeyPatch, classes: int, channels: int
) -> None:
    register(monkeypatch, "ours", make(2, 1))
    data: tuple[str, ...] = OURS
    if classes > 256:  # more than data sets by name have
        make_folder(Path("many"), classes, each=2)
        data = ("--dataset", "many", "--data-dir", "data", "--device", "cpu")
        data += ("--test-fraction", "0.5", "--validation-fraction", "0")
    elif classes > 2:
        register(monkeypatch, "ours", make(classes, channels))
    read_json(kd("train-teacher", *data, *QUICK, "--arch", "resnet-8", "--json"))
    distilled = read_json(kd("distill", *data, *QUICK, "--student", f"{USERS}:Small", "--json"))
    assert distilled["architecture"] == f"{USERS}:Small"
    assert distilled["parameters"] == 8 * 9 * channels + 8 + 16 + 9 * classes
    code, _, stderr = kd("evaluate", *data)
    assert (code, f"add --trust {USERS}" in stderr) == (1, True)
    evaluated = read_json(kd("evaluate", *data, "--trust", USERS, "--json"))
    assert evaluated["models"][1]["accuracy"] == distilled["accuracy"]
    monkeypatch.setenv("KD_TRUST", USERS)
    teacher, student = read_json(kd("benchmark", *data, "--json"))["models"]
    assert student["macs"] == 11 * 19 * 8 * 9 * channels + 8 * classes
    assert teacher["macs"] > 5_000_000
    students = ("--students", f"{USERS}:Small,mlp-8", "--seeds", "1", "--jobs", "1")
    compared = read_json(kd("compare", *data, *QUICK, *students, "--json"))
    assert compared["cells"][0]["parameters"] == distilled["parameters"]
    assert len(compared["cells"]) == 4
    save(Path("one.png"), noise(0, channels=channels))
    (image,) = read_json(kd("predict", "one.png", *data[:2], "--json"))["images"]
    assert [len(image[role]["probabilities"]) for role in ("teacher", "student")] == [classes, classes]


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "one.png", "--teacher", "own.safetensors"),
        ("distill", *OURS, *QUICK, "--teacher", "own.safetensors"),
        ("compare", *OURS, *QUICK, "--teacher", "own.safetensors", "--seeds", "1", "--jobs", "1"),
    ],
    ids=lambda command: command[0],
)
def test_a_users_network_is_read_where_it_is_trusted(
    kd: CommandLine, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    register(monkeypatch, "ours", make(3, 1))
    assert kd("train-teacher", *OURS, *QUICK, "--arch", f"{USERS}:Small", "-o", "own.safetensors")[0] == 0
    save(Path("one.png"), noise(0, channels=1))
    code, _, stderr = kd(*command)
    assert (code, f"add --trust {USERS}" in stderr) == (1, True)
    code, _, stderr = kd(*command, "--trust", USERS)
    assert code == 0, stderr


@pytest.mark.slow
def test_worker_processes_train_networks_of_users_and_libraries(kd: CommandLine) -> None:
    pytest.importorskip("timm")
    make_folder(Path("images"), each=30, height=32, width=32)
    Path("nets.py").write_text(
        "from torch import nn\n"
        "def small(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.Flatten(), nn.Linear(3600, num_classes))\n"
    )
    data = ("--dataset", "images", "--device", "cpu")
    students = "nets.py:small,torchvision:mobilenet_v3_small,timm:lcnet_035"
    assert kd("train-teacher", *data, *QUICK, "--arch", "mlp-8")[0] == 0
    result = read_json(kd("compare", *data, *QUICK, "--students", students, "--seeds", "1", "--jobs", "2", "--json"))
    assert (result["failed"], result["runs"]["side_by_side"]) == ([], 2)
    assert [cell["student"] for cell in result["cells"][::2]] == students.split(",")


def test_a_teacher_as_others_publish_it_teaches(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "ours", make(3, 3))
    network = build_network(parse_spec("resnet-8"), (3, 24, 40), 3)
    weights = {f"module.{name}": tensor for name, tensor in network.half().state_dict().items()}
    torch.save({"state_dict": weights, "best": 0.9}, "published.th")
    own = ("--teacher-arch", "resnet-8", "--teacher-mean", "imagenet")
    code, _, stderr = kd("distill", *OURS, *QUICK, "--teacher", "published.th", *own, "--student", "mlp-8")
    assert code == 0, stderr
    assert "assumed ours, pixels with mean 0.485,0.456,0.406 and standard deviation 0.229,0.224,0.225" in stderr
    assert kd("distill", *OURS, *QUICK, "--teacher", "published.th", "--student", "mlp-8")[0] == 1
    assert kd("evaluate", *OURS, "published.th", "--arch", "resnet-8")[0] == 0


def test_training_starts_from_given_weights(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "ours", make(3, 1))
    assert kd("train-teacher", *OURS, *QUICK, "--arch", "mlp-8", "-o", "first.safetensors")[0] == 0
    first = load_checkpoint(Path("first.safetensors"), CPU).classifier.network
    register(monkeypatch, "ours", make(5, 1))
    data, run = DataConfig("ours", Path("data5")), DeviceConfig(Path("models"), DeviceName.cpu)
    jobs = [
        resolve_teacher(parse_spec("mlp-8"), data, TrainingConfig(), run, init=init)
        for init in (Path("first.safetensors"), None)
    ]
    begun, fresh = (job.start().network.state_dict() for job in jobs)
    assert torch.equal(begun["network.fc1.weight"], first.get_parameter("fc1.weight"))
    assert torch.equal(begun["network.fc2.weight"], fresh["network.fc2.weight"])
    assert jobs[0].identity() != jobs[1].identity()
    assert jobs[0].options()["init"] == "first.safetensors"
    labels = MethodConfig("labels")
    config = StudentConfig(parse_spec("mlp-9"), labels, data=data, run=run, init=Path("first.safetensors"))
    with pytest.raises(KdError, match=r"does not fit mlp-9: fc1.weight is \(8, 960\), not \(9, 960\)"):
        resolve_student(config, needs_teacher=False)


def test_a_student_starts_from_given_weights(kd: CommandLine) -> None:
    digits = ("-d", "digits", "-e", "2", "--json")
    first = read_json(kd("train-teacher", *digits, "--arch", "mlp-16", "-o", "first.safetensors"))
    unchanged = ("--student", "mlp-16", "--method", "labels", "--lr", "1e-9")
    result = read_json(kd("distill", *digits, *unchanged, "--init", "first.safetensors"))
    assert (result["accuracy"], result["options"]["init"]) == (first["accuracy"], "first.safetensors")


def test_a_student_of_other_classes_starts_with_a_fresh_last_layer_and_a_notice(
    kd: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch, "ours", make(3, 1))
    assert kd("train-teacher", *OURS, *QUICK, "--arch", "mlp-8", "-o", "first.safetensors")[0] == 0
    register(monkeypatch, "ours", make(5, 1))
    student = ("--data-dir", "data5", "--student", "mlp-8", "--method", "labels", "--init", "first.safetensors")
    code, _, stderr = kd("distill", "--dataset", "ours", *QUICK, *student)
    assert code == 0
    assert "first.safetensors tells other classes apart: fc2.weight, fc2.bias start afresh" in stderr


def test_weights_to_start_from_are_never_replaced(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "ours", make(3, 1))
    first = ("--arch", "mlp-8", "-o", "first.safetensors")
    assert kd("train-teacher", *OURS, *QUICK, *first)[0] == 0
    code, _, stderr = kd("train-teacher", *OURS, *QUICK, *first, "--init", "first.safetensors")
    assert (code, "the command reads it" in stderr) == (1, True)


def test_a_run_with_dropout_can_be_repeated_to_the_bit(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "ours", make(3, 1))
    for file in ("a.safetensors", "b.safetensors"):
        torch.rand(3)
        assert kd("train-teacher", *OURS, *QUICK, "--arch", f"{USERS}:Small", "-o", file)[0] == 0
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()


def test_a_single_image_that_a_network_cannot_be_trained_with_is_told(
    kd: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "flat.py").write_text(
        "from torch import nn\n"
        "def make(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(960), nn.Linear(960, num_classes))\n"
    )
    register(monkeypatch, "ours", make(3, 1, count=65))
    code, _, stderr = kd("train-teacher", *OURS, *QUICK, "--arch", "flat.py:make")
    assert (code, "use another --batch-size than 64" in stderr) == (1, True)


class TestClassOrder:
    @pytest.fixture
    def checkpoint(self, metadata: Metadata) -> Checkpoint:
        data = replace(make(3, 1).info, classes=("cat", "dog", "owl"))
        classifier = build_classifier(parse_spec("mlp-8"), data).eval()
        return Checkpoint(classifier, replace(metadata, data=data), Path("x.safetensors"), "digest")

    def test_classes_are_matched_by_name(self, checkpoint: Checkpoint) -> None:
        data = replace(checkpoint.metadata.data, classes=("owl", "cat", "dog"))
        fitted, pixels = require_fit(checkpoint, data), torch.rand(4, 1, 24, 40)
        expected = checkpoint.classifier(pixels)[:, [2, 0, 1]]
        torch.testing.assert_close(fitted.classifier(pixels), expected)
        torch.testing.assert_close(fitted.classifier.forward_features(pixels)["fc2"], expected)
        assert fitted.metadata.data.classes == data.classes
        assert fitted.digest != checkpoint.digest
        assert not fitted.classifier.training

    def test_equal_orders_change_nothing(self, checkpoint: Checkpoint) -> None:
        assert require_fit(checkpoint, checkpoint.metadata.data) is checkpoint

    def test_other_classes_are_refused_with_both_lists(self, checkpoint: Checkpoint) -> None:
        data = replace(checkpoint.metadata.data, classes=("owl", "cat", "cow"))
        with pytest.raises(KdError, match=r"tells apart cat, dog, owl, but ours has owl, cat, cow"):
            require_fit(checkpoint, data)

    def test_a_network_that_was_chosen_may_be_of_another_data_set(
        self, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
    ) -> None:
        mnist, kmnist = (replace(checkpoint.metadata.data, name=name) for name in ("mnist", "kmnist"))
        of_mnist = replace(checkpoint, metadata=replace(checkpoint.metadata, data=mnist))
        with pytest.raises(KdError, match="was trained on mnist, not on kmnist"):
            require_fit(of_mnist, kmnist)
        assert require_fit(of_mnist, kmnist, named=True) is of_mnist
        assert "was trained on mnist, and is used on kmnist" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "file", "accuracy"),
    [("resnet-20", "resnet20-12fca82f.th", 0.810), ("resnet-56", "resnet56-4bfd9763.th", 0.832)],
)
def test_published_teachers_reach_their_accuracy_on_a_folder_of_jpegs(
    kd: CommandLine, tmp_path: Path, spec: str, file: str, accuracy: float
) -> None:
    import tarfile

    archive, checkpoint = DATA_DIR / "cifar10-images.tar.gz", DATA_DIR / "cifar10-resnet" / file
    if not (archive.exists() and checkpoint.exists()):
        pytest.skip("needs CIFAR-10 as JPEG files and the published checkpoints")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "cifar", filter="data")
    read_as = ("--arch", spec, "--mean", "imagenet", "--device", "cpu", "--json")
    data = ("--dataset", tmp_path / "cifar", "--data-dir", tmp_path / "prepared")
    result = read_json(kd("evaluate", *data, checkpoint, *read_as))
    assert result["models"][0]["accuracy"] == pytest.approx(accuracy, abs=5e-4)
