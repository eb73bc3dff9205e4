"""How long one image takes, with one thread: PyTorch and ONNX Runtime, and what our own code adds to either.

    python -m tests.benchmarks.inference [--rounds 200]

The weights that ship are exported to a temporary folder. All ways take turns of 50 images each; every ratio is of
medians. ONNX Runtime is to be at least 2.5 times as fast as the classifier in PyTorch, and our call of it to take at
most 1.05 times as long as a bare ``session.run``.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import nn

from kd_cli.config import Role
from kd_cli.data.dataset import to_pixels
from kd_cli.evaluation import timing
from kd_cli.networks.checkpoint import load_checkpoint, shipped_models_dir
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.export import export_onnx
from kd_cli.networks.onnx_file import INPUT, OnnxNetwork


def documented(network: nn.Module) -> nn.Module:
    """A reference network's layers as its docstring has them, without code of ours."""
    layers = dict(network.named_children())
    if "conv1" in layers:
        conv, fc1, fc2 = layers.values()
        return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(5, 5), nn.Flatten(), fc1, nn.ReLU(), fc2)
    fc1, fc2 = layers.values()
    return nn.Sequential(nn.Flatten(), fc1, nn.ReLU(), fc2)


def ways_of(classifier: Classifier, file: Path) -> dict[str, Callable[[], Any]]:
    """Ways to compute the logits of one image, by their names."""
    pixels = to_pixels(torch.randint(0, 256, (1, *classifier.shape), dtype=torch.uint8))
    normalised, array = (pixels - classifier.mean) * classifier.inverse_std, pixels.numpy()
    plain = documented(classifier.network)
    network = OnnxNetwork(file, threads=1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return {
        "classifier, PyTorch": lambda: classifier(pixels),
        "its network alone, of normalised images": lambda: classifier.network(normalised),
        "its layers in nn.Sequential, likewise": lambda: plain(normalised),
        "OnnxNetwork": lambda: network(array),
        "session.run": lambda: session.run(None, {INPUT: array}),
    }


@torch.inference_mode()
def measure(role: Role, folder: Path) -> None:
    """Print how long each way takes, and the ratios."""
    checkpoint = load_checkpoint(shipped_models_dir() / "mnist" / f"{role.value}.safetensors", torch.device("cpu"))
    file = folder / f"{role.value}.onnx"
    export_onnx(checkpoint.classifier, checkpoint.metadata, file)
    ways = ways_of(checkpoint.classifier, file)
    found = timing.measure_latencies([*ways.values()])
    p50 = {name: each.p50 for name, each in zip(ways, found, strict=True)}
    print(f"{role.value} {checkpoint.metadata.architecture}, one image, one thread: p50, p95, p99 in microseconds")
    for name, each in zip(ways, found, strict=True):
        print(f"  {name:40} {1e3 * each.p50:7.2f} {1e3 * each.p95:7.2f} {1e3 * each.p99:7.2f}")
    eager, alone, plain, ours, bare = p50.values()
    print(f"  PyTorch / ONNX Runtime: {eager / ours:.2f}; our call / session.run: {ours / bare:.2f}")
    print(f"  classifier / its network: {eager / alone:.2f}; its network / nn.Sequential: {alone / plain:.2f}")


def main() -> None:
    """Measure teacher and student."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    timing.ROUNDS = parser.parse_args().rounds
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for role in Role:
            measure(role, Path(folder))


if __name__ == "__main__":
    main()
