"""Steps with fewer bits: who computes with them, who does not, and where they are refused."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd_cli.config import KdError, TrainingConfig, TrainingPrecision
from kd_cli.data.dataset import Dataset, to_pixels
from kd_cli.networks.classifier import Classifier, build_classifier
from kd_cli.networks.features import Layer
from kd_cli.networks.spec import parse_spec
from kd_cli.training import precision
from kd_cli.training.loop import fit
from kd_cli.training.precision import MixedPrecision, require_usable, with_precision
from tests.training.test_loop import start

BF16, FP16, FP32 = TrainingPrecision.bf16, TrainingPrecision.fp16, TrainingPrecision.fp32
CPU = torch.device("cpu")

SPECS = ["mlp-16", "cnn-4", "resnet-8"]


def pair(tiny: Dataset, spec: str) -> tuple[Classifier, Any, Tensor]:
    """A classifier, the same with 16 bits, and pixels."""
    torch.manual_seed(0)
    classifier = build_classifier(parse_spec(spec), tiny.info).eval()
    return classifier, with_precision(classifier, BF16), to_pixels(tiny.train.images[:32])


def kinds_of_outputs(classifier: nn.Module, call: Callable[[], object]) -> set[torch.dtype]:
    """The dtypes that the linear layers give in a call."""
    found = set()
    handles = [
        module.register_forward_hook(lambda _, __, output: found.add(output.dtype))
        for module in classifier.modules()
        if isinstance(module, nn.Linear)
    ]
    call()
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("spec", SPECS)
def test_layers_compute_with_16_bits_and_logits_have_32(tiny: Dataset, spec: str) -> None:
    classifier, mixed, pixels = pair(tiny, spec)
    assert kinds_of_outputs(classifier, lambda: mixed(pixels)) == {torch.bfloat16}
    logits, exact = mixed(pixels), classifier(pixels)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, exact)
    torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("spec", "layer"), [("cnn-4", "fc1"), ("cnn-4", "conv1"), ("resnet-8", "layer2")])
def test_features_are_read_with_32_bits(tiny: Dataset, spec: str, layer: str) -> None:
    classifier, mixed, pixels = pair(tiny, spec)
    features, logits = Layer(layer).read(mixed, pixels)
    exact, _ = Layer(layer).read(classifier, pixels)
    assert features.dtype == logits.dtype == torch.float32
    assert not torch.equal(features, exact)
    torch.testing.assert_close(features, exact, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("spec", ["mlp-16", "cnn-4"])
def test_weights_keep_32_bits_and_their_names(tiny: Dataset, spec: str) -> None:
    training = start(tiny, TrainingConfig(epochs=1, precision=BF16), spec)
    fit(training)
    assert {parameter.dtype for parameter in training.network.parameters()} == {torch.float32}
    assert training.network.state_dict().keys() == start(tiny, spec=spec).network.state_dict().keys()


def test_loss_is_computed_with_32_bits(tiny: Dataset) -> None:
    training = start(tiny, TrainingConfig(epochs=1, precision=BF16))
    step = training.objective(training.step_network, next(training.batches.epoch()))
    assert step.loss.dtype == step.logits.dtype == torch.float32


def test_a_run_with_32_bits_has_no_wrapper(tiny: Dataset) -> None:
    training = start(tiny)
    assert training.step_network is training.network


def test_only_fp16_is_scaled() -> None:
    assert [precision.make_scaler(each, "cpu") is not None for each in (FP32, BF16, FP16)] == [False, False, True]


@pytest.fixture(autouse=True)
def nothing_said_yet() -> None:
    precision._warn_once.cache_clear()


def test_fp16_is_refused_on_a_cpu() -> None:
    with pytest.raises(KdError, match="--precision fp16 is for GPUs: use bf16"):
        require_usable(FP16, CPU)


@pytest.fixture
def make_cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, bool]], None]:
    """Let the CPU have these instructions."""

    def make(capabilities: Mapping[str, bool]) -> None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    return make


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16", "bf16"])
def test_nothing_is_said_of_a_cpu_that_computes_with_bf16(
    make_cpu: Callable[[Mapping[str, bool]], None], caplog: pytest.LogCaptureFixture, instruction: str
) -> None:
    make_cpu({instruction: True})
    require_usable(BF16, CPU)
    assert caplog.text == ""


def test_a_cpu_that_only_emulates_bf16_is_said_to_be_slower(
    make_cpu: Callable[[Mapping[str, bool]], None], caplog: pytest.LogCaptureFixture
) -> None:
    make_cpu({"avx2": True, "avx512_bf16": False})
    for _ in range(2):  # jobs are checked more than once
        require_usable(BF16, CPU)
    assert caplog.messages == ["this cpu has no instructions for bf16: without --precision it is faster"]


@pytest.mark.parametrize("there", [True, False])
def test_a_gpu_is_asked_for_bf16_of_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, there: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: there)
    require_usable(BF16, torch.device("cuda"))
    assert bool(caplog.messages) is not there


def test_mixed_precision_shares_the_weights(tiny: Dataset) -> None:
    classifier, mixed, _ = pair(tiny, "mlp-16")
    assert isinstance(mixed, MixedPrecision)
    assert {id(each) for each in mixed.parameters()} == {id(each) for each in classifier.parameters()}
