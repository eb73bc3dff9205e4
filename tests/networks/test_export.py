"""Networks written for other programs: they compute what they did, and hold nothing of this machine."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from kd_cli.config import KdError, Precision
from kd_cli.data.dataset import DataInfo
from kd_cli.networks import export
from kd_cli.networks.classifier import Classifier, build_classifier
from kd_cli.networks.export import (
    PT2_DESCRIPTION,
    export_onnx,
    export_pt2,
    is_our_pt2,
    load_pt2,
    require_extra,
    require_survivable,
    trace,
)
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.onnx_file import OnnxNetwork, parse_description
from kd_cli.networks.quantise import export_int8
from kd_cli.networks.spec import parse_spec
from tests.networks import exporting
from tests.networks.exporting import classify

SHAPES = {
    "mlp-8-8": (1, 28, 28),
    "cnn-4": (1, 28, 28),
    "cnn-3": (3, 21, 30),
    "resnet-8": (3, 16, 16),
    "torchvision:squeezenet1_1": (3, 40, 40),
    "timm:resnet10t": (1, 32, 32),
}
"""Networks, and images that they take."""

SLOW = ("cnn-3", "torchvision:squeezenet1_1", "timm:resnet10t")


def build(spec: str) -> tuple[Classifier, DataInfo]:
    """A network of three classes, as training leaves it: its batch normalisation has seen images."""
    shape = SHAPES[spec]
    info = DataInfo("data", ("a", "b", "c"), shape, (0.4,) * shape[0], (0.2,) * shape[0], "")
    torch.manual_seed(0)
    classifier = build_classifier(parse_spec(spec), info)
    classifier.train()(torch.rand(64, *shape))
    return classifier.eval(), info


def draw(shape: tuple[int, ...], count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, *shape), np.uint8)


@torch.no_grad()
def run(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = classifier(torch.from_numpy(images).float() / 255).numpy()
    return logits


@pytest.mark.parametrize("spec", [pytest.param(s, marks=pytest.mark.slow) if s in SLOW else s for s in SHAPES])
def test_networks_of_all_kinds_compute_the_same_as_onnx(spec: str, described: Metadata, tmp_path: Path) -> None:
    classifier, info = build(spec)
    export_onnx(classifier, replace(described, architecture=spec, data=info), tmp_path / "n.onnx")
    network = OnnxNetwork(tmp_path / "n.onnx")
    assert network.metadata.architecture == spec
    for count in (1, 33):  # cnn-N has another layout for many images
        images = draw(classifier.shape, count)
        np.testing.assert_allclose(network.compute_logits(images), run(classifier, images), atol=1e-4)


@pytest.mark.parametrize("half", [False, True])
def test_a_pt2_file_is_what_torch_export_loads_and_says_what_it_is(
    classifier: Classifier, described: Metadata, tmp_path: Path, half: bool
) -> None:
    path, images = tmp_path / "net.pt2", draw((1, 28, 28), 33)
    export_pt2(classifier, described, path, half)
    logits = load_pt2(path)(torch.from_numpy(images).float() / 255)
    torch.testing.assert_close(logits, torch.from_numpy(run(classifier, images)), rtol=0, atol=1e-2 if half else 1e-5)
    said = {PT2_DESCRIPTION: ""}
    torch.export.load(path, extra_files=said)
    precision = Precision.float16 if half else Precision.float32
    assert parse_description(said[PT2_DESCRIPTION]) == export.describe(classifier, described, precision)
    assert is_our_pt2(path)
    torch.save({}, tmp_path / "other.pt2")
    assert not is_our_pt2(tmp_path / "other.pt2")


def test_half_the_bytes_give_nearly_the_same_logits(
    classifier: Classifier, described: Metadata, exported: Path, tmp_path: Path
) -> None:
    path, images = tmp_path / "half.onnx", draw((1, 28, 28), 33)
    export_onnx(classifier, described, path, half=True)
    network = OnnxNetwork(path)
    assert network.precision is Precision.float16
    assert 0.5 * exported.stat().st_size < path.stat().st_size < 0.6 * exported.stat().st_size
    difference = np.abs(network.compute_logits(images) - run(classifier, images)).max()
    assert 1e-6 < difference < 1e-2
    assert classifier.network.linear.weight.dtype == torch.float  # type: ignore[union-attr]


class TestInt8:
    def test_a_quarter_of_the_bytes_gives_nearly_the_same_logits(self, described: Metadata, tmp_path: Path) -> None:
        classifier, info = build("resnet-8")
        path, images = tmp_path / "int8.onnx", draw(classifier.shape, 200)
        export_int8(classifier, replace(described, data=info), path, images)
        network = OnnxNetwork(path)
        assert network.precision is Precision.int8
        assert path.stat().st_size < 1.3 * network.parameters
        logits = run(classifier, images)
        assert np.abs(network.compute_logits(images) - logits).max() < 0.1 * (logits.max() - logits.min())

    def test_weights_have_a_signed_scale_for_each_channel(
        self, classifier: Classifier, described: Metadata, tmp_path: Path
    ) -> None:
        path = tmp_path / "int8.onnx"
        export_int8(classifier, described, path, draw((1, 28, 28), 20))
        constants = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
        weights = [each for each in constants.values() if each.ndim == 2]
        assert [each.dtype for each in weights] == [np.int8]
        assert any(each.shape == (10,) and each.dtype == np.float32 for each in constants.values())

    def test_ranges_are_those_of_the_images_that_are_given(
        self, classifier: Classifier, described: Metadata, tmp_path: Path
    ) -> None:
        images = draw((1, 28, 28), 50)
        dark = images // 100
        for name, seen in {"bright": images, "dark": dark}.items():
            export_int8(classifier, described, tmp_path / f"{name}.onnx", seen)
        errors = {
            name: np.abs(OnnxNetwork(tmp_path / f"{name}.onnx").compute_logits(images) - run(classifier, images)).max()
            for name in ("bright", "dark")
        }
        assert errors["dark"] > 3 * errors["bright"]


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_file_names_no_file_of_this_machine(
    classifier: Classifier, described: Metadata, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"net.{kind}"
    options = {"teachers": ["/home/somebody/a.safetensors"], "init": "/home/somebody/b.safetensors", "epochs": 1}
    described = replace(described, options=options)
    (export_onnx if kind == "onnx" else export_pt2)(classifier, described, path)
    content = path.read_bytes()
    for name in (torch.__file__, exporting.__file__):
        assert str(Path(name).parent).encode() not in content
    assert b"somebody" not in content
    assert all(name in content for name in (b"a.safetensors", b"b.safetensors"))


def test_the_classes_keep_the_order_in_which_the_classifier_gives_them(
    classifier: Classifier, described: Metadata, tmp_path: Path
) -> None:
    images, order = draw((1, 28, 28), 5), (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
    for half in (False, True):
        export_onnx(classifier.reorder(order), described, tmp_path / "n.onnx", half)
        logits = OnnxNetwork(tmp_path / "n.onnx").compute_logits(images)
        np.testing.assert_allclose(logits, run(classifier, images)[:, ::-1], atol=1e-2 if half else 1e-5)


class TestRefused:
    """One line each, and nothing else on the screen."""

    @pytest.mark.parametrize(
        ("network", "reason"),
        [
            (exporting.WithoutOnnxOperator(), "net cannot be written as ONNX (DispatchError: No ONNX function found"),
            (exporting.OfBatchSize(), "net cannot be traced for any number of images ("),
            (exporting.OfValues(), "net cannot be traced for any number of images ("),
        ],
    )
    def test_networks_that_no_graph_describes(
        self,
        network: nn.Module,
        reason: str,
        described: Metadata,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        with pytest.raises(KdError) as caught:
            export_onnx(classify(network), described, tmp_path / "n.onnx")
        assert str(caught.value).startswith(reason)
        assert "\n" not in str(caught.value)
        assert capfd.readouterr() == ("", "")
        assert not (tmp_path / "n.onnx").exists()

    @pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
    def test_anything_without_the_extra(self, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(KdError, match=r"pip install 'kd-cli\[export\]'"):
            require_extra()

    def test_a_file_that_onnx_runtime_crashes_on(self, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        require_survivable(exported)
        monkeypatch.setattr(subprocess, "run", Mock(return_value=Mock(returncode=-11)))
        with pytest.raises(KdError, match="ONNX Runtime crashes"):
            require_survivable(exported)


def test_tracing_leaves_the_networks_weights_and_the_random_stream_alone(classifier: Classifier) -> None:
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    trace(classifier, "net")
    assert torch.rand(1) == expected
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
