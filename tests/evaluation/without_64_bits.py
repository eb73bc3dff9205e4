"""A device like Apple's GPUs, which has no 64-bit floating-point numbers, for machines that have none of them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

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
        result = function(*_unwrap(arguments), **_unwrap(options or {}))
        if getattr(function, "__name__", "") in HOST:
            return result
        if any(isinstance(value, Tensor) and value.dtype == torch.float64 for value in tree_flatten(result)[0]):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return tree_map(lambda value: value.as_subclass(OnDevice) if isinstance(value, Tensor) else value, result)


def to_device(tensor: Tensor) -> Tensor:
    """The tensor, on the device."""
    return tensor.as_subclass(OnDevice)


def _unwrap(values: Any) -> Any:
    return tree_map(lambda value: value.as_subclass(Tensor) if isinstance(value, OnDevice) else value, values)
