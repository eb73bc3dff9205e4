"""How an architecture spec becomes a network."""

import contextlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd_cli.config import ConfigError
from kd_cli.networks.handed_over import make_network
from kd_cli.networks.reference import IMAGE_SHAPE, StudentNet, TeacherNet
from kd_cli.networks.resnet import ResNet
from kd_cli.networks.spec import HANDED_OVER, Spec


def build_network(spec: Spec, shape: tuple[int, int, int] = IMAGE_SHAPE, classes: int = 10) -> nn.Module:
    """A freshly initialised network; its weights come from torch's global random stream.

    Args:
        spec: the architecture. A user's own is imported: that is for specs that the user named or trusts.
        shape: (channels, height, width) of an image.
        classes: how many there are.

    Raises:
        ConfigError: there is no such network, or it does not take such images or give so many logits.
    """
    if spec.family == "cnn":
        return TeacherNet(spec.sizes[0], shape, classes)
    if spec.family == "mlp":
        return StudentNet(spec.sizes, shape, classes, spec.regularisation)
    if spec.family == "resnet":
        return ResNet(spec.sizes[0], shape, classes)
    if spec.family == HANDED_OVER:
        return make_network(spec)
    from kd_cli.networks.zoo import build_foreign  # torchvision takes its time

    return build_foreign(spec, shape, classes)


def build_empty(spec: Spec, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A network that shows what weights it takes; it has memory for them only where it cannot be made without.

    Raises:
        ConfigError: as `build_network`.
    """
    if not spec.is_own:
        # A few networks of libraries compute with values while they are made (torchvision's regnet), and need memory.
        with contextlib.suppress(ConfigError), torch.device("meta"):
            return build_network(spec, shape, classes)
    return build_network(spec, shape, classes)


def fill(
    network: nn.Module, spec: Spec, shape: tuple[int, int, int], classes: int, weights: Mapping[str, Tensor]
) -> nn.Module:
    """The network that `build_empty` made, with weights that fit it."""
    if spec.is_reference:
        network.load_state_dict(weights, assign=True)
        return network
    if not spec.is_own:  # libraries' networks have constants that no state dict keeps
        network = build_network(spec, shape, classes)
    network.load_state_dict(weights)
    return network
