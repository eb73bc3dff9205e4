"""Plain state dicts, as people publish them, read without running any code: of ``torch.save``, or safetensors.

They say nothing of themselves, so the user says what they are; cnn-N and mlp-N are told from their layers.
"""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from kd_cli.config import KdError, some_of
from kd_cli.networks.spec import MAX_LAYER_SIZE, Spec

MAX_BYTES = 2**34
"""A larger file is no image classifier: 4 billion values."""

BEGINNINGS = (b"PK\x03\x04", b"\x80\x02\x8a\x0a")
"""Of a file that ``torch.save`` wrote: a ZIP archive today, a pickled number before 2020. All four bytes count, since a
safetensors file begins with the length of its header, which may look like the first two."""

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Under which names training programs keep the weights beside other things."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

UNCOUNTED = "num_batches_tracked"
"""A counter that batch normalisation gained later, and that evaluation does not read."""

Layout = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and type of each tensor by its name."""


def is_torch_file(path: Path) -> bool:
    """Whether ``torch.save`` wrote a file, by how it begins.

    Raises:
        OSError: it cannot be opened.
    """
    with open(path, "rb") as file:
        return file.read(4) in BEGINNINGS


def is_exported_program(path: Path) -> bool:
    """Whether ``torch.export.save`` wrote a file, by the names of its parts.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/archive_format") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def layout_of(network: nn.Module) -> Layout:
    """What the weights of a network look like."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in network.state_dict().items()}


def read_layout(path: Path) -> Layout:
    """What the weights in a file look like; no memory is given out for them.

    Raises:
        KdError: as `read_weights`.
        OSError: it cannot be opened.
    """
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in _read(path, "meta").items()}


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights in a file, on the CPU wherever they were saved, by their names without wrappers.

    Raises:
        KdError: it is damaged, or holds anything but tensors by name.
        OSError: it cannot be opened.
    """
    return _read(path, "cpu")


def recognise(path: Path, layout: Layout, flag: str) -> tuple[Spec, int]:
    """The architecture and the classes of a ``cnn-N`` or ``mlp-N``; the caller checks that everything fits.

    Raises:
        KdError: the layers are others; names the option that says whose.
    """
    shapes = {name: shape for name, (shape, _) in layout.items()}
    try:
        if "conv1.weight" in shapes:
            spec, classes = Spec("cnn", shapes["conv1.weight"][:1]), shapes["fc2.bias"][0]
        else:
            layers = sorted((name for name in shapes if name.endswith(".weight")), key=lambda name: int(name[2:-7]))
            spec, classes = Spec("mlp", tuple(shapes[name][0] for name in layers[:-1])), shapes[layers[-1]][0]
        if not spec.sizes or not all(1 <= size <= MAX_LAYER_SIZE for size in spec.sizes):
            raise ValueError("impossible sizes")
    except (LookupError, ValueError) as error:
        raise KdError(f"{path} does not look like cnn-N or mlp-N: say what it is with {flag} SPEC") from error
    return spec, classes


def count_classes(layout: Layout) -> int:
    """How many classes the last layer tells apart, as far as a state dict shows."""
    sizes = [shape[0] for shape, _ in layout.values() if shape]
    return sizes[-1] if sizes else 0


def describe_misfit(expected: Layout, found: Layout) -> str | None:
    """Why weights do not fit a network: a few of the names that are missing, unexpected or of another shape."""
    missing = [name for name in expected if name not in found and not name.endswith(UNCOUNTED)]
    unexpected = [name for name in found if name not in expected]
    different = [
        f"{name} is {found[name][0]}, not {shape}"
        for name, (shape, dtype) in expected.items()
        if name in found and (found[name][0] != shape or found[name][1].is_floating_point != dtype.is_floating_point)
    ]
    parts = [
        *([f"missing {some_of(missing)}"] if missing else []),
        *([f"unexpected {some_of(unexpected)}"] if unexpected else []),
        *([some_of(different)] if different else []),
    ]
    return "; ".join(parts) or None


def convert(weights: Mapping[str, Tensor], expected: Layout) -> dict[str, Tensor]:
    """Weights that fit, in the types of the network: half precision becomes single precision."""
    return {
        name: weights[name].to(dtype).contiguous() if name in weights else torch.zeros(shape, dtype=dtype)
        for name, (shape, dtype) in expected.items()
    }


def _read(path: Path, place: str) -> dict[str, Tensor]:
    if path.stat().st_size > MAX_BYTES:
        raise KdError(f"{path} is larger than any network that kd reads: use a state dict of an image classifier")
    try:
        content = _open(path, place)
        for wrapper in WRAPPERS:
            if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
                content = content[wrapper]
        weights = {str(name): tensor for name, tensor in content.items()}
        if not weights or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
            raise TypeError("not all tensors")
    except Exception as error:  # torch.load raises many kinds for a hostile or damaged file; none of them ran its code
        raise KdError(
            f"{path} is damaged, or no plain state dict: save one with torch.save(network.state_dict(), path)"
        ) from error
    for prefix in 2 * PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def _open(path: Path, place: str) -> Any:
    if is_torch_file(path):
        # An open file: given a path, torch would let its suffix decide what it is.
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on odd files; ours is the one that counts
            return torch.load(file, weights_only=True, map_location=place)
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        if place == "cpu":
            return {name: file.get_tensor(name) for name in names}
        return {name: _empty(file.get_slice(name)) for name in names}


def _empty(piece: Any) -> Tensor:
    """A tensor of a file without its memory."""
    return torch.empty(piece.get_shape(), dtype=_DTYPES[piece.get_dtype()], device="meta")


_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U8": torch.uint8, "BOOL": torch.bool},
}
"""What safetensors calls torch's types."""
