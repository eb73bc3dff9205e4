"""Exported files: what they say, what they compute, and which are refused."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from kd_cli.config import ConfigError, KdError, Precision
from kd_cli.data import dataset
from kd_cli.networks.checkpoint import save_checkpoint
from kd_cli.networks.classifier import Classifier, compute_logits
from kd_cli.networks.metadata import Metadata
from kd_cli.networks.onnx_file import (
    METADATA_KEY,
    Description,
    OnnxNetwork,
    is_onnx,
    is_our_onnx,
    parse_description,
    to_pixels,
)
from tests.networks.exporting import write_graph

NEVER_MIND = (ArithmeticError, LookupError, TypeError, ValueError, ConfigError)


@pytest.fixture(scope="module")
def network(exported: Path) -> OnnxNetwork:
    return OnnxNetwork(exported)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    """More than are computed at once."""
    return np.random.default_rng(0).integers(0, 256, (1203, 1, 28, 28), np.uint8)


def description_of(path: Path) -> str:
    return next(str(entry.value) for entry in onnx.load(path).metadata_props if entry.key == METADATA_KEY)


def test_logits_are_those_of_the_original_for_any_number_of_images(
    network: OnnxNetwork, classifier: Classifier, images: NDArray[np.uint8]
) -> None:
    expected = compute_logits(classifier, torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(network.compute_logits(images), expected, atol=1e-5)
    for count in (1, 2, 17):
        np.testing.assert_allclose(network(to_pixels(images[:count])), expected[:count], atol=1e-5)


def test_pixels_are_to_the_bit_those_of_checkpoints() -> None:
    images = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_pixels(images), dataset.to_pixels(torch.from_numpy(images)).numpy())


def test_a_file_says_what_it_was_exported_from(network: OnnxNetwork, described: Metadata) -> None:
    assert network.description == Description(described, Precision.float32, parameters=7850, macs=7840)
    assert (network.metadata, network.parameters, network.shipped) == (described, 7850, False)


def test_a_description_can_be_read_by_any_program(described: Metadata) -> None:
    plain = replace(described, accuracy=math.nan, options={"lr": math.inf}, assumed=True)
    text = Description(plain, Precision.int8, 1, 2).to_json()

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(text, parse_constant=refuse)["data"]["classes"] == list(described.data.classes)
    read = parse_description(text)
    assert math.isnan(read.metadata.accuracy)
    assert (read.metadata.assumed, read.precision) == (True, Precision.int8)


@pytest.mark.parametrize(
    "change",
    [{"precision": "float7"}, {"parameters": None}, {"macs": "many"}, {"data": {}}, {"role": "pupil"}],
)
def test_a_description_with_anything_wrong_is_refused(described: Metadata, change: dict[str, Any]) -> None:
    raw = json.loads(Description(described, Precision.float32, 1, 2).to_json())
    with pytest.raises(NEVER_MIND):
        parse_description(json.dumps(raw | change))


def test_classes_in_another_order_are_matched_by_name(network: OnnxNetwork, images: NDArray[np.uint8]) -> None:
    classes = network.metadata.data.classes
    order = (3, 1, 2, 0, 4, 5, 6, 7, 9, 8)
    once = network.with_classes(tuple(classes[i] for i in order))
    assert once.metadata.data.classes == tuple(classes[i] for i in order)
    np.testing.assert_array_equal(once.compute_logits(images), network.compute_logits(images)[:, list(order)])
    np.testing.assert_array_equal(once.with_classes(classes).compute_logits(images), network.compute_logits(images))


class TestRefused:
    """One line each, that says what to do."""

    def refuse(self, path: Path, reason: str) -> None:
        with pytest.raises(KdError, match=reason) as caught:
            OnnxNetwork(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not is_our_onnx(path)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "none.onnx", "no file .*: check the path, or make one with kd export")

    @pytest.mark.parametrize("content", [b"", b"\x08\x0a", b"\x89PNG", b"\x08" * 4000])
    def test_what_is_no_onnx(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "file.onnx"
        path.write_bytes(content)
        self.refuse(path, "use one that kd export wrote|export a checkpoint with")

    def test_a_file_that_is_cut_off(self, tmp_path: Path, exported: Path) -> None:
        path = tmp_path / "cut.onnx"
        path.write_bytes(exported.read_bytes()[:-1000])
        self.refuse(path, "damaged, or no ONNX file; use one that kd export wrote")

    def test_a_folder(self, tmp_path: Path) -> None:
        self.refuse(tmp_path, "not a regular file")

    def test_a_file_of_another_program(self, tmp_path: Path) -> None:
        self.refuse(write_graph(tmp_path / "foreign.onnx"), "does not say which classes it tells apart")

    def test_a_file_whose_description_is_damaged(self, tmp_path: Path) -> None:
        self.refuse(write_graph(tmp_path / "odd.onnx", description='{"role": []}'), "does not say which classes")

    @pytest.mark.parametrize(
        "graph",
        [
            {"input": "images"},
            {"output": "probabilities"},
            {"shape": ("batch", 3, 28, 28)},
            {"shape": (2, 1, 28, 28)},
            {},  # gives 784 values, not 10
        ],
    )
    def test_a_graph_with_other_input_or_output(self, tmp_path: Path, exported: Path, graph: dict[str, Any]) -> None:
        path = write_graph(tmp_path / "other.onnx", **graph, description=description_of(exported))
        self.refuse(path, r"takes .*\[.*28\] and gives .*, not pixels \[1, 28, 28\] and logits \[10\]")

    def test_an_operator_that_onnx_runtime_does_not_have(self, tmp_path: Path, exported: Path) -> None:
        model = onnx.load(exported)
        model.graph.node[0].op_type, model.graph.node[0].domain = "Unheard", "of"
        model.opset_import.append(onnx.helper.make_opsetid("of", 1))
        path = tmp_path / "unheard.onnx"
        path.write_bytes(model.SerializeToString())
        self.refuse(path, "operator")

    def test_a_graph_that_fails_for_some_number_of_images(
        self, tmp_path: Path, exported: Path, images: NDArray[np.uint8]
    ) -> None:
        ends = [onnx.numpy_helper.from_array(np.array(end), f"{end}") for end in ([0, 0], [2, 10])]
        taken, given = (
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *rest])
            for name, rest in (("pixels", (1, 28, 28)), ("logits", (10,)))
        )
        nodes = [
            onnx.helper.make_node("Flatten", ["pixels"], ["flat"]),
            onnx.helper.make_node("Slice", ["flat", "[0, 0]", "[2, 10]"], ["logits"]),
        ]
        graph = onnx.helper.make_graph(nodes, "graph", [taken], [given], ends)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
        onnx.helper.set_model_props(model, {METADATA_KEY: description_of(exported)})
        onnx.save(model, tmp_path / "two.onnx")
        network = OnnxNetwork(tmp_path / "two.onnx")
        assert network.compute_logits(images[:2]).shape == (2, 10)
        with pytest.raises(KdError, match=r"two\.onnx gives \(2, 10\) for 3 images: export it again"):
            network.compute_logits(images[:3])
        with pytest.raises(KdError, match=r"two\.onnx cannot be run: it is damaged"):
            network.compute_logits(images[:2, :, :14])

    def test_anything_without_onnx_runtime(self, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        self.refuse(exported, r"needs ONNX Runtime: pip install 'kd-cli\[export\]'")


def test_an_exported_file_is_told_by_its_content_or_its_name(
    exported: Path, tmp_path: Path, classifier: Classifier, described: Metadata
) -> None:
    assert is_onnx(exported)
    renamed = tmp_path / "renamed"
    renamed.write_bytes(exported.read_bytes())
    assert is_onnx(renamed)
    assert is_onnx(tmp_path / "none.onnx")
    assert not is_onnx(tmp_path / "none")
    save_checkpoint(tmp_path / "checkpoint", classifier, described)
    torch.save(classifier.state_dict(), tmp_path / "state_dict")
    (tmp_path / "empty").touch()
    assert not any(is_onnx(tmp_path / name) for name in ("checkpoint", "state_dict", "empty"))


def test_a_safetensors_file_whose_header_has_an_unlucky_length_is_no_onnx(tmp_path: Path) -> None:
    path = tmp_path / "unlucky"
    path.write_bytes(b"\x08\x0a\x00\x00\x00\x00\x00\x00{}")
    assert not is_onnx(path)


def test_a_file_is_opened_and_run_without_torch(exported: Path) -> None:
    program = (
        "import sys, numpy; from pathlib import Path; from kd_cli.networks.onnx_file import OnnxNetwork;"
        "OnnxNetwork(Path(sys.argv[1])).compute_logits(numpy.zeros((3, 1, 28, 28), numpy.uint8));"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(exported)], check=True)


def test_what_cannot_be_read_is_not_taken_for_onnx(tmp_path: Path) -> None:
    assert not is_onnx(tmp_path)
    assert not is_onnx(tmp_path / ("a" * 300))
