"""A device like Apple's GPUs, which has no 64-bit floating-point numbers, for machines that have none of them.

A tensor gets there by `to_device`, or in `OtherDevice` as it does in programs: by the device of another tensor.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("mps")

HOST = {"cpu", "tolist", "item", "numpy", "__int__", "__float__", "__bool__", "__len__", "__format__", "__repr__"}
"""What brings values to the CPU."""


class OnDevice(Tensor):
    """A tensor on the device: refuses float64, and to be mixed with tensors of the CPU."""

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> Any:
        values = (arguments, options or {})
        tensors = [value for value in tree_flatten(values)[0] if isinstance(value, Tensor)]
        if any(not isinstance(tensor, OnDevice) and tensor.ndim for tensor in tensors):
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, mps and cpu"
            )
        if function == Tensor.device.__get__:
            return DEVICE
        result = function(*_unwrap(arguments), **_unwrap(options or {}))
        if getattr(function, "__name__", "") in HOST:
            return result
        if any(isinstance(value, Tensor) and value.dtype == torch.float64 for value in tree_flatten(result)[0]):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return tree_map(lambda value: value.as_subclass(OnDevice) if isinstance(value, Tensor) else value, result)


class OtherDevice(TorchFunctionMode):
    """While it is entered, tensors can be made on the device, and moved there."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> Any:
        values = (arguments, options or {})
        if DEVICE not in tree_flatten(values)[0]:
            return function(*arguments, **(options or {}))
        arguments, options = tree_map(lambda value: "cpu" if value == DEVICE else value, values)
        return to_device(function(*arguments, **options))


def to_device(tensor: Tensor) -> Tensor:
    """The tensor, on the device."""
    return tensor.as_subclass(OnDevice)


class NetworkOnDevice:
    """A network with its weights on the device; `torch.nn.Module.to` would keep the kind of its tensors."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        weights = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        self.weights = {name: to_device(weight.detach()) for name, weight in weights.items()}

    def parameters(self) -> Iterator[Tensor]:
        return iter(self.weights.values())

    def __call__(self, pixels: Tensor) -> Tensor:
        return functional_call(self.network, self.weights, (pixels,))  # type: ignore[no-any-return]


def _unwrap(values: Any) -> Any:
    return tree_map(lambda value: value.as_subclass(Tensor) if isinstance(value, OnDevice) else value, values)
