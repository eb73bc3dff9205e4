"""`kd export`: no file takes its place that does not compute what its original does."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from kd_cli.commands.evaluate import evaluate
from kd_cli.commands.export import RANDOM_IMAGES, export
from kd_cli.commands.train_teacher import train_teacher
from kd_cli.config import (
    ConfigError,
    DataConfig,
    DeviceName,
    ExportConfig,
    ExportFormat,
    KdError,
    OutputConfig,
    Role,
    RunConfig,
    TrainingConfig,
)
from kd_cli.data.prepared import load
from kd_cli.digits.mnist_format import read_source
from kd_cli.networks import export as writing
from kd_cli.networks.checkpoint import Reading, checkpoint_path, load_checkpoint, save_checkpoint
from kd_cli.networks.onnx_file import OnnxNetwork
from kd_cli.networks.spec import parse_spec
from tests.conftest import DATA_DIR, ROOT, CommandLine, read_json
from tests.data.images import make_folder, save
from tests.digits.images import draw_seven
from tests.networks.exporting import write_graph

CPU = torch.device("cpu")
RUN = RunConfig(device=DeviceName.cpu)
ROOM = "kd_cli.commands.export"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, data: DataConfig) -> Path:
    """A checkpoint of the bundled digits."""
    path: Path = tmp_path_factory.mktemp("original") / "mine.safetensors"
    train_teacher(parse_spec("mlp-16"), data, TrainingConfig(epochs=2), RUN, OutputConfig(path))
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, original: Path, data: DataConfig) -> Path:
    path: Path = tmp_path_factory.mktemp("exported") / "mine.onnx"
    for format, output in ((ExportFormat.onnx, path), (ExportFormat.pt2, path.with_suffix(".pt2"))):
        export(original, ExportConfig(format, output=output), data, RUN)
    return path


def break_network(monkeypatch: pytest.MonkeyPatch, writer: str, size: float = 0.01) -> None:
    """Write another network than the one that is asked for, as an exporter with a fault would."""
    write: Callable[..., None] = getattr(sys.modules[ROOM], writer)

    def write_other(classifier: Any, *others: Any) -> None:
        other = classifier.reorder(tuple(range(10)))
        bias = other.network.fc2.bias
        with torch.no_grad():
            bias[0] += size
            write(other, *others)
            bias[0] -= size

    monkeypatch.setattr(f"{ROOM}.{writer}", write_other)


@pytest.mark.parametrize(
    ("options", "ending", "difference"),
    [
        ({}, ".onnx", 1e-4),
        ({"half": True}, "-float16.onnx", 0.1),
        ({"int8": True}, "-int8.onnx", 2),
        ({"format": ExportFormat.pt2}, ".pt2", 1e-4),
        ({"format": ExportFormat.pt2, "half": True}, "-float16.pt2", 0.1),
    ],
)
def test_what_is_written_is_measured_beside_its_original(
    original: Path, data: DataConfig, run: RunConfig, options: dict[str, Any], ending: str, difference: float
) -> None:
    config = ExportConfig(**options)
    result = export(original, config, data, run)
    file = run.models_dir / "digits" / f"mine{ending}"
    assert (result.file, result.size_bytes) == (str(file), file.stat().st_size)
    assert (result.format, result.precision) == (config.format.value, config.precision.value)
    assert (result.dataset, result.device, result.images, result.random_pixels) == ("digits", "cpu", 500, False)
    (model,) = evaluate([original], data, run).models
    assert (result.original_accuracy, result.original_error_count) == (model.accuracy, model.error_count)
    assert (result.original.checkpoint, result.original_size_bytes) == (str(original), original.stat().st_size)
    assert result.accuracy == pytest.approx(model.accuracy, abs=0.01)
    assert 0 <= result.max_logit_difference <= difference
    assert result.agreement >= 0.98


def test_an_exported_file_is_evaluated_as_its_original_is(original: Path, exported: Path, data: DataConfig) -> None:
    own, theirs = (evaluate([path], data, RUN).models[0] for path in (original, exported))
    assert theirs.checkpoint == str(exported)
    assert theirs.nll == pytest.approx(own.nll, rel=1e-4)
    assert (theirs.error_count, theirs.confusion) == (own.error_count, own.confusion)
    assert (theirs.architecture, theirs.parameters, theirs.temperature) == ("mlp-16", own.parameters, own.temperature)


def test_teacher_and_exported_student_are_evaluated_side_by_side(
    original: Path, exported: Path, data: DataConfig
) -> None:
    teacher, other = evaluate([original, exported], data, RUN).models
    assert (teacher.agreement, other.agreement) == (1, 1)


def test_the_images_of_the_test_set_calibrate_nothing(
    original: Path, data: DataConfig, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Mock(wraps=sys.modules[ROOM].export_int8)
    monkeypatch.setattr(f"{ROOM}.export_int8", write)
    export(original, ExportConfig(int8=True), data, run)
    np.testing.assert_array_equal(write.call_args.args[3], load(data).train.images.numpy())


@pytest.mark.slow
class TestCheck:
    """A file that differs is not left as if it were good, nor in the place of one that is."""

    def test_other_logits_are_refused(
        self, original: Path, data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        output = tmp_path / "a.onnx"
        export(original, ExportConfig(output=output), data, RUN)
        before = output.read_bytes()
        break_network(monkeypatch, "export_onnx")
        with pytest.raises(
            KdError, match=r"a.onnx is not written: its logits would differ by up to 0.01 .*--tolerance"
        ):
            export(original, ExportConfig(output=output), data, RUN)
        assert output.read_bytes() == before
        assert list(tmp_path.iterdir()) == [output]
        assert export(original, ExportConfig(output=output, tolerance=0.02), data, RUN).max_logit_difference > 0.009

    def test_it_is_the_file_that_is_checked_whatever_the_format(
        self, original: Path, data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        break_network(monkeypatch, "export_pt2")
        with pytest.raises(KdError, match=r"a\.pt2 is not written"):
            export(original, ExportConfig(ExportFormat.pt2, output=tmp_path / "a.pt2"), data, RUN)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(("writer", "kind"), [("export_int8", "int8"), ("export_onnx", "half")])
    def test_a_lower_accuracy_is_refused(
        self, original: Path, data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, kind: str
    ) -> None:
        break_network(monkeypatch, writer, 1000)  # one class alone is predicted
        config = ExportConfig(output=tmp_path / "a.onnx", **{kind: True})  # type: ignore[arg-type]
        with pytest.raises(KdError, match=r"accuracy would be 10\.\d\d%, where .* has \d\d\.\d\d%; use .*--max-drop"):
            export(original, config, data, RUN)
        assert list(tmp_path.iterdir()) == []
        assert export(original, replace(config, max_drop=1), data, RUN).error_count == pytest.approx(450, abs=2)

    def test_a_file_that_cannot_be_used_is_refused(
        self, original: Path, data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def write_nothing(classifier: Any, metadata: Any, path: Path, half: bool) -> None:
            path.write_bytes(b"nothing")

        monkeypatch.setattr(f"{ROOM}.export_onnx", write_nothing)
        with pytest.raises(KdError, match=r"a\.onnx is not written: cannot open the file: it is damaged"):
            export(original, ExportConfig(output=tmp_path / "a.onnx"), data, RUN)
        assert list(tmp_path.iterdir()) == []

    def test_without_the_data_random_pixels_are_compared_with_a_notice(
        self, original: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, run: RunConfig
    ) -> None:
        checkpoint = load_checkpoint(original, CPU)
        gone = replace(checkpoint.metadata, data=replace(checkpoint.metadata.data, name="../gone"))
        save_checkpoint(tmp_path / "gone.safetensors", checkpoint.classifier.network, gone)
        result = export(tmp_path / "gone.safetensors", run=run)
        assert (result.random_pixels, result.images, result.accuracy) == (True, RANDOM_IMAGES, None)
        assert result.max_logit_difference < 1e-4
        assert "checked on random pixels alone" in caplog.text
        assert "unknown data set '../gone'" in caplog.text
        assert result.file == str(run.models_dir / "gone.onnx")  # what a file says is no path to follow
        for kind in ("int8", "half"):
            with pytest.raises(KdError, match=f"--{kind} needs the data of .*gone.safetensors: unknown data set"):
                export(tmp_path / "gone.safetensors", ExportConfig(**{kind: True}), run=run)  # type: ignore[arg-type]

    def test_a_data_set_that_is_named_must_be_there(self, original: Path, run: RunConfig) -> None:
        with pytest.raises(ConfigError, match="unknown data set 'nowhere'"):
            export(original, data=DataConfig("nowhere"), run=run)


@pytest.mark.slow
class TestOutput:
    """What is in the place of the file that is to be written."""

    def test_an_earlier_export_is_replaced(self, original: Path, data: DataConfig, tmp_path: Path) -> None:
        output = tmp_path / "a"
        for format in (ExportFormat.pt2, ExportFormat.onnx, ExportFormat.pt2):
            result = export(original, ExportConfig(format, output=output), data, RUN)
            assert (result.file, result.size_bytes) == (str(output), output.stat().st_size)

    @pytest.mark.parametrize("force", [False, True])
    def test_a_file_of_the_users_is_replaced_by_force_alone(
        self, original: Path, data: DataConfig, tmp_path: Path, force: bool
    ) -> None:
        output = write_graph(tmp_path / "theirs.onnx")
        if force:
            assert export(original, ExportConfig(output=output), data, RUN, force).accuracy is not None
            assert OnnxNetwork(output)
        else:
            with pytest.raises(KdError, match="kd did not write; choose another place, or use --force"):
                export(original, ExportConfig(output=output), data, RUN, force)

    def test_no_input_is_ever_replaced(self, original: Path, data: DataConfig) -> None:
        before = original.read_bytes()
        with pytest.raises(KdError, match="the command reads it"):
            export(original, ExportConfig(output=original), data, RUN, force=True)
        assert original.read_bytes() == before

    def test_an_image_of_the_data_set_is_never_replaced(self, tmp_path: Path, run: RunConfig) -> None:
        folder = make_folder(tmp_path / "images")
        data = DataConfig(str(folder), tmp_path / "data")
        path = tmp_path / "net.safetensors"
        train_teacher(parse_spec("mlp-4"), data, TrainingConfig(epochs=1), run, OutputConfig(path), force=True)
        with pytest.raises(KdError, match="the command reads it"):
            export(path, ExportConfig(output=folder / "class 1" / "0.png"), data, run, force=True)

    def test_a_file_that_ships_is_not_replaced(self, kd: CommandLine, shipped: Path) -> None:
        teacher = checkpoint_path(shipped, "digits", Role.teacher)
        code, _, stderr = kd("export", "--dataset", "digits", "--output", teacher)
        assert (code, stderr.count("\n")) == (1, 1)
        assert "kd did not write" in stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--int8", "--half"], "give --int8 or --half, not both"),
        (["--int8", "--format", "pt2"], "--int8 is for ONNX"),
        (["--format", "tflite"], "unknown format 'tflite': use onnx, pt2"),
        (["--output", "a.pt2"], "--output a.pt2: add --format pt2, or name it *.onnx"),
        (["--output", "a.onnx", "--format", "pt2"], "--output a.onnx: add --format onnx, or name it *.pt2"),
        (["--device", "cuda"], "--device cuda: an export is checked on the CPU"),
        (["--max-drop", "2"], "--max-drop 2.0: use a number from 0 to 1"),
    ],
)
def test_options_that_contradict_each_other_are_usage_errors(kd: CommandLine, options: list[str], reason: str) -> None:
    code, stdout, stderr = kd("export", "--dataset", "digits", *options)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert reason in stderr
    assert "kd export --help" in stderr


def test_a_missing_extra_is_one_line(kd: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, stdout, stderr = kd("export", "--dataset", "digits")
    assert (code, stdout) == (1, "")
    assert stderr == "kd: ONNX needs the extra export: pip install 'kd-cli[export]', or use --format pt2\n"
    assert kd("export", "--dataset", "digits", "--format", "pt2")[0] == 0


def test_the_json_object_has_what_other_programs_rely_on(kd: CommandLine) -> None:
    result = read_json(kd("export", "--dataset", "digits", "--role", "teacher", "--json"))
    assert result.keys() >= {
        *("file", "format", "size_bytes", "accuracy", "original_accuracy", "max_logit_difference"),
        *("dataset", "device"),
    }
    assert (result["file"], result["format"]) == ("runs/models/digits/teacher.onnx", "onnx")
    assert result["accuracy"] == result["original_accuracy"] > 0.98


@pytest.mark.slow
def test_a_users_network_and_a_state_dict_of_it_are_exported(kd: CommandLine) -> None:
    Path("nets.py").write_text(
        "from torch import nn\n"
        "def small(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveMaxPool2d(2),"
        " nn.Flatten(), nn.Linear(16, num_classes))\n"
    )
    options = ("--dataset", "digits", "--device", "cpu")
    assert kd("distill", *options, "--student", "nets.py:small", "--epochs", "1", "--force")[0] == 0
    code, _, stderr = kd("export", "--dataset", "digits")
    assert (code, "add --trust nets.py" in stderr) == (1, True)
    result = read_json(kd("export", "--dataset", "digits", "--trust", "nets.py", "--json"))
    assert result["accuracy"] == result["original_accuracy"]
    path = Path("runs/models/digits/student.safetensors")
    network = load_checkpoint(path, CPU, Reading(trust=("nets.py",))).classifier.network
    torch.save(network.state_dict(), "plain.pth")
    plain = read_json(kd("export", "plain.pth", "--dataset", "digits", "--arch", "nets.py:small", "--json"))
    assert (plain["file"], plain["accuracy"]) == ("runs/models/digits/plain.onnx", result["accuracy"])
    # An exported file needs no trust: it runs no code.
    assert kd("evaluate", "runs/models/digits/student.onnx", "--dataset", "digits")[0] == 0


@pytest.mark.parametrize(
    ("command", "ending"), [*product(["export", "distill --teacher"], [".onnx", ".pt2"]), ("benchmark", ".pt2")]
)
def test_commands_that_need_layers_refuse_exported_files(
    kd: CommandLine, exported: Path, command: str, ending: str
) -> None:
    path = exported.with_suffix(ending)
    code, stdout, stderr = kd(*command.split(), path, "--dataset", "digits", *_epochs(command))
    assert (code, stdout) == (1, "")
    assert stderr == f"kd: {path} is an exported file, without layers to work on: use the checkpoint it came from\n"


def _epochs(command: str) -> list[str]:
    return ["--epochs", "1"] if command.startswith("distill") else []


@pytest.fixture(scope="module")
def files(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Role, Path]:
    """The networks that ship, exported."""
    paths, folder = {}, tmp_path_factory.mktemp("files")
    for role in Role:
        checkpoint = load_checkpoint(checkpoint_path(shipped, "mnist", role), CPU)
        paths[role] = folder / f"{role.value}.onnx"
        writing.export_onnx(checkpoint.classifier, checkpoint.metadata, paths[role])
    return paths


class TestPredict:
    """`kd predict` with exported files."""

    @pytest.fixture
    def seven(self, tmp_path: Path) -> Path:
        return save(tmp_path / "images" / "7.png", 255 - draw_seven())

    def test_is_the_same_as_with_the_originals(self, kd: CommandLine, files: dict[Role, Path], seven: Path) -> None:
        both = read_json(kd("predict", seven, "--device", "cpu", "--json"))["images"][0]
        given = ("--teacher", files[Role.teacher], "--student", files[Role.student])
        result = read_json(kd("predict", seven, *given, "--json"))
        (image,) = result["images"]
        assert result["device_name"] == "cpu (ONNX Runtime)"
        assert [model["checkpoint"] for model in result["models"]] == [str(path) for path in given[1::2]]
        for role in ("teacher", "student"):
            assert image[role]["label"] == both[role]["label"] == "7"
            np.testing.assert_allclose(image[role]["probabilities"], both[role]["probabilities"], atol=1e-5)
        assert (image["agree"], image["unsure"]) == (both["agree"], both["unsure"])

    @pytest.mark.parametrize("role", list(Role))
    def test_a_model_predicts_alone_in_its_role(
        self, kd: CommandLine, files: dict[Role, Path], seven: Path, shipped: Path, role: Role
    ) -> None:
        for path in (files[role], checkpoint_path(shipped, "mnist", role)):
            result = read_json(kd("predict", seven, "--model", path, "--json"))
            assert [(model["role"], model["checkpoint"]) for model in result["models"]] == [(role.value, str(path))]
            (image,) = result["images"]
            assert image[role.value]["label"] == "7"
            assert [image[other.value] for other in Role if other is not role] == [None]

    def test_an_exported_student_predicts_beside_a_checkpoint(
        self, kd: CommandLine, files: dict[Role, Path], seven: Path
    ) -> None:
        result = read_json(kd("predict", seven, "--student", files[Role.student], "--device", "cpu", "--json"))
        assert [model["role"] for model in result["models"]] == ["teacher", "student"]
        assert result["images"][0]["agree"] is True

    def test_imports_no_torch(self, files: dict[Role, Path], seven: Path, tmp_path: Path) -> None:
        program = (
            "import sys; from kd_cli.cli import main;"
            f"code = main(['predict', '--model', {str(files[Role.student])!r}, {str(seven)!r}, '--csv', 'out.csv']);"
            "sys.exit(code or 'torch' in sys.modules)"
        )
        run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stderr) == (0, "")
        assert "Student: " in run.stdout

    def test_the_script_of_the_readme_does_so_without_kd(
        self, files: dict[Role, Path], seven: Path, tmp_path: Path
    ) -> None:
        script = (ROOT / "README.md").read_text("utf-8").split("```python\n")[2].split("```")[0]
        place = tmp_path / "runs" / "models" / "mnist" / "student.onnx"
        place.parent.mkdir(parents=True)
        place.write_bytes(files[Role.student].read_bytes())
        save(tmp_path / "digit.png", read_source(seven, "seven"))
        program = f"{script}\nimport sys; sys.exit(bool({{'torch', 'kd_cli'}} & sys.modules.keys()))"
        run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert run.stdout == "7 mlp-128 kd\n"

    def test_files_that_are_no_networks_are_refused(
        self, kd: CommandLine, files: dict[Role, Path], seven: Path
    ) -> None:
        foreign = write_graph(seven.parent / "foreign.onnx")
        for path, reason in ((foreign, "does not say which classes"), (seven.parent / "none.onnx", "no file")):
            code, stdout, stderr = kd("predict", seven, "--teacher", files[Role.teacher], "--student", path)
            assert (code, stdout, stderr.count("\n")) == (1, "", 1)
            assert reason in stderr

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (["--student", "a.onnx"], "--model predicts alone: leave out --teacher and --student"),
            (["--device", "cuda"], "runs on the CPU; leave the option out"),
        ],
    )
    def test_options_that_do_not_go_with_it_are_usage_errors(
        self, kd: CommandLine, exported: Path, seven: Path, options: list[str], reason: str
    ) -> None:
        code, _, stderr = kd("predict", seven, "--model", exported, *options)
        assert (code, stderr.count("\n")) == (2, 1)
        assert reason in stderr


@pytest.mark.slow
@pytest.mark.usefixtures("archives")
@pytest.mark.parametrize("role", list(Role))
def test_on_mnist_logits_are_within_1e_4_and_errors_the_same(shipped: Path, tmp_path: Path, role: Role) -> None:
    config = ExportConfig(output=tmp_path / "a.onnx")
    result = export(checkpoint_path(shipped, "mnist", role), config, DataConfig("mnist", DATA_DIR), RUN)
    assert result.images == 10_000
    assert result.max_logit_difference <= 1e-4
    assert (result.error_count, result.agreement) == (result.original_error_count, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("archives")
@pytest.mark.parametrize("role", list(Role))
def test_on_mnist_int8_costs_at_most_a_fifth_of_a_point_at_three_tenths_of_the_bytes(
    shipped: Path, tmp_path: Path, role: Role
) -> None:
    config = ExportConfig(int8=True, output=tmp_path / "a.onnx")
    result = export(checkpoint_path(shipped, "mnist", role), config, DataConfig("mnist", DATA_DIR), RUN)
    assert result.accuracy is not None
    assert result.original_accuracy is not None
    assert result.accuracy >= result.original_accuracy - 0.002
    assert result.size_bytes <= 0.3 * result.original_size_bytes


@pytest.mark.slow
def test_a_network_of_torchvision_gives_the_same_logits_on_all_test_images(tmp_path: Path, run: RunConfig) -> None:
    data = DataConfig(str(make_folder(tmp_path / "images", each=60)), tmp_path / "data")
    path = tmp_path / "net.safetensors"
    config = TrainingConfig(epochs=2, batch_size=16)
    train_teacher(parse_spec("torchvision:resnet18"), data, config, run, OutputConfig(path), force=True)
    result = export(path, ExportConfig(), data, run)
    assert result.max_logit_difference <= 1e-4
    assert result.error_count == result.original_error_count
