"""Networks that a Python program hands over: they get a spec, under which this process knows them."""

import copy
from collections.abc import Callable

from torch import nn

from kd_cli.config import KdError
from kd_cli.networks.spec import HANDED_OVER, Spec

_makers: dict[str, Callable[[], nn.Module]] = {}


def hand_over(network: nn.Module | Callable[[], nn.Module]) -> Spec:
    """The spec of a network, whose copies start with its weights, or of a function that makes a fresh one each time."""
    maker = (lambda: copy.deepcopy(network)) if isinstance(network, nn.Module) else network
    name = type(network).__name__ if isinstance(network, nn.Module) else getattr(network, "__name__", "network")
    spec = Spec(HANDED_OVER, name=f"{name.strip('<>')}.{len(_makers) + 1}")
    _makers[spec.name] = maker
    return spec


def make_network(spec: Spec) -> nn.Module:
    """A network that was handed over.

    Raises:
        KdError: not in this process.
    """
    try:
        maker = _makers[spec.name]
    except KeyError as error:
        raise KdError(f"{spec} is a network of the program that made it: use it there") from error
    return maker()
