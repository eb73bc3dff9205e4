"""Plain state dicts of the reference networks, as ``torch.save`` writes them, read without running any code.

They say nothing of themselves, so the architecture is told from the shapes and MNIST is assumed.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor

from kd_cli.config import KdError
from kd_cli.networks.spec import MAX_LAYER_SIZE, Spec

MAX_BYTES = 2**30
"""A file larger than this is no network for 28x28 images."""

BEGINNINGS = (b"PK\x03\x04", b"\x80\x02\x8a\x0a")
"""Of a file that ``torch.save`` wrote: a ZIP archive today, a pickled number before 2020. All four bytes count, since a
safetensors file begins with the length of its header, which may look like the first two."""


def is_state_dict(path: Path) -> bool:
    """Whether ``torch.save`` wrote a file, by how it begins.

    Raises:
        OSError: it cannot be opened.
    """
    with open(path, "rb") as file:
        return file.read(4) in BEGINNINGS


def read_state_dict(path: Path) -> tuple[Spec, int, dict[str, Tensor]]:
    """The architecture, the number of classes, and the weights in a state dict.

    Raises:
        KdError: the file is no state dict of tensors, holds anything that would have to be executed, or its layers are
            not those of ``cnn-N`` or ``mlp-N[-M...]``.
        OSError: it cannot be opened.
    """
    if path.stat().st_size > MAX_BYTES:
        raise KdError(f"{path} is larger than any network that kd reads: use a state dict of cnn-N or mlp-N")
    try:
        # An open file: given a path, torch would let its suffix decide what it is.
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on odd files; ours is the one that counts
            # On "meta" no memory is given out for weights: whether their shapes make sense comes first.
            shapes = torch.load(file, weights_only=True, map_location="meta")
            spec, classes = _recognise({str(name): tuple(tensor.shape) for name, tensor in shapes.items()})
            file.seek(0)
            weights = torch.load(file, weights_only=True, map_location="cpu")
        if not all(isinstance(tensor, Tensor) and tensor.dtype == torch.float32 for tensor in weights.values()):
            raise TypeError("not all 32-bit floating-point tensors")
        return spec, classes, {name: tensor.contiguous() for name, tensor in weights.items()}
    except Exception as error:  # torch.load raises many kinds for a hostile or damaged file; none of them ran its code
        raise KdError(
            f"{path} is damaged, or no plain state dict with layers conv1, fc1, fc2: "
            "save one with torch.save(network.state_dict(), path)"
        ) from error


def _recognise(shapes: dict[str, tuple[int, ...]]) -> tuple[Spec, int]:
    """Architecture and classes from the names and shapes of the weights; the caller checks that all of them fit."""
    if "conv1.weight" in shapes:
        spec = Spec("cnn", shapes["conv1.weight"][:1])
    else:
        layers = sorted((name for name in shapes if name.endswith(".weight")), key=lambda name: int(name[2:-7]))
        spec = Spec("mlp", tuple(shapes[name][0] for name in layers[:-1]))
    classes = list(shapes.values())[-1][0]
    if not all(1 <= size <= MAX_LAYER_SIZE for size in spec.sizes):
        raise ValueError("impossible sizes")
    return spec, classes
