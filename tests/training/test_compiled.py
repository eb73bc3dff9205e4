"""A compiled network: which batches it computes, what it shares, and what becomes of a compiler that fails."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd_cli.config import KdError, TrainingConfig, TrainingPrecision
from kd_cli.data.dataset import Dataset
from kd_cli.training.callbacks import CompileTime
from kd_cli.training.compiled import LAUNCH_BOUND_MACS, CompiledNetwork, worth_graphing
from kd_cli.training.loop import fit
from tests.training.test_loop import start, train, weights

Compiled = Callable[[Tensor], Tensor]


class FakeCompiler:
    """In place of `torch.compile`: says what it was called with, and which batches came."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.batches: list[int] = []
        self.error: Exception | None = None

    def __call__(self, network: nn.Module, **options: Any) -> Compiled:
        self.options = options

        def compiled(pixels: Tensor) -> Tensor:
            if self.error is not None:
                raise self.error
            self.batches.append(len(pixels))
            logits: Tensor = network(pixels)
            return logits

        return compiled


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    fake = FakeCompiler()
    monkeypatch.setattr(torch, "compile", fake)
    return fake


CONFIG = TrainingConfig(epochs=1, compile=True)


def test_full_batches_are_compiled_and_a_smaller_last_one_is_not(tiny: Dataset, compiler: FakeCompiler) -> None:
    training = start(tiny, CONFIG)
    fit(training)
    assert compiler.batches == [64] * 9  # of 600 images
    assert compiler.options == {"dynamic": False, "mode": "default"}


def test_weights_are_those_of_the_network_under_its_names(tiny: Dataset, compiler: FakeCompiler) -> None:
    training = start(tiny, CONFIG)
    fit(training)
    plain = start(tiny, TrainingConfig(epochs=1))
    fit(plain)
    assert training.network.state_dict().keys() == plain.network.state_dict().keys()
    assert training.state_dict()["network"].keys() == plain.state_dict()["network"].keys()
    assert torch.equal(weights(training.network), weights(plain.network))


def test_what_is_compiled_computes_with_the_bits_that_are_asked_for(tiny: Dataset, compiler: FakeCompiler) -> None:
    training = start(tiny, TrainingConfig(epochs=1, compile=True, precision=TrainingPrecision.bf16))
    fit(training)
    bf16 = train(tiny, TrainingConfig(epochs=1, precision=TrainingPrecision.bf16))
    assert torch.equal(weights(training.network), bf16)


def test_a_compiler_that_fails_is_one_line_that_says_what_to_do(tiny: Dataset, compiler: FakeCompiler) -> None:
    compiler.error = RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nin any of these places: ...")
    with pytest.raises(KdError, match=r"^torch.compile fails \(.*C\+\+ compiler.*\): leave --compile out") as caught:
        fit(start(tiny, CONFIG))
    assert "\n" not in str(caught.value)


def test_errors_of_later_steps_are_not_the_compilers(tiny: Dataset, compiler: FakeCompiler) -> None:
    training = start(tiny, CONFIG)
    training.run_epoch()
    compiler.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        training.run_epoch()


def test_steps_that_are_graphed_are_marked_and_their_logits_copied(
    compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: list[str] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marked.append("step"))
    network, pixels = CompiledNetwork(nn.Identity(), 4, graphed=True), torch.rand(4, 2)
    logits = network(pixels)
    assert compiler.options["mode"] == "reduce-overhead"
    assert marked == ["step"]
    assert torch.equal(logits, pixels)
    assert logits.data_ptr() != pixels.data_ptr()  # where the graph writes


class Placed:
    """What says how much it computes, and where: there need be no GPU."""

    def __init__(self, device: str, macs: int) -> None:
        self.macs, self.weight = macs, SimpleNamespace(device=torch.device(device))

    def parameters(self) -> Iterator[object]:
        return iter([self.weight])


@pytest.mark.parametrize(
    ("device", "macs", "graphed"),
    [
        ("cuda", LAUNCH_BOUND_MACS // 64 - 1, True),
        ("cuda", LAUNCH_BOUND_MACS // 64, False),
        ("cpu", 1, False),
        ("mps", 1, False),
    ],
)
def test_only_small_steps_on_a_gpu_are_worth_graphing(device: str, macs: int, graphed: bool) -> None:
    assert worth_graphing(Placed(device, macs), 64) is graphed  # type: ignore[arg-type]


def test_what_compiling_took_is_said_once(
    tiny: Dataset, compiler: FakeCompiler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fit(start(tiny, TrainingConfig(epochs=3, compile=True)), [CompileTime()])
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("--compile: the first step took 0.")
    assert caplog.messages[0].endswith(" ms")


@pytest.mark.slow
@pytest.mark.parametrize("precision", [TrainingPrecision.fp32, TrainingPrecision.bf16])
def test_the_compiler_trains_what_torch_trains(tiny: Dataset, precision: TrainingPrecision) -> None:
    config = TrainingConfig(epochs=2, batch_size=50, precision=precision)
    training = start(tiny, TrainingConfig(epochs=2, batch_size=50, precision=precision, compile=True), "cnn-4")
    fit(training)
    assert not any("_orig_mod" in name for name in training.network.state_dict())
    torch.testing.assert_close(weights(training.network), train(tiny, config, "cnn-4"), rtol=0, atol=0.01)
