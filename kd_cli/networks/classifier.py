"""Classifiers: pixels in, logits out. Each brings its own normalisation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kd_cli.data.dataset import DataInfo, to_pixels
from kd_cli.networks.reference import Network, build_network
from kd_cli.networks.spec import Spec

FORWARD_CHUNK = 500
"""Images per forward pass where no gradients are needed: as fast as all at once, and 60 MB at most."""


class Classifier(nn.Module):
    """A network behind the normalisation that it was trained with.

    It takes pixels from 0 to 1, (N, C, H, W), so that teacher and student may be normalised differently, and nothing
    around it needs to know how.

    Args:
        network: takes normalised images.
        mean: of each channel.
        std: of each channel.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, network: Network, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        # Not part of the weights: a checkpoint keeps them in its description.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("inverse_std", 1 / torch.tensor(std).view(-1, 1, 1), persistent=False)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.network.macs

    def forward_features(self, pixels: Tensor) -> dict[str, Tensor]:
        """The network's features by the names of its layers, in their order; the last ones are the logits."""
        return self.network.forward_features(self._normalise(pixels))

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels from 0 to 1, (N, C, H, W) -> logits, (N, classes)."""
        logits: Tensor = self.network(self._normalise(pixels))
        return logits

    def _normalise(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean).mul_(self.inverse_std)


def build_classifier(spec: Spec, data: DataInfo) -> Classifier:
    """A fresh classifier for images like these; its weights come from torch's global random stream."""
    return Classifier(build_network(spec, len(data.classes)), data.mean, data.std)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def compute_logits(classifier: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Logits, (N, classes), of uint8 images (N, C, H, W), without gradients and in bounded memory.

    ``classifier`` may be any function of pixels from 0 to 1 that gives one row for each image.
    """
    return torch.cat([classifier(to_pixels(chunk)) for chunk in images.split(FORWARD_CHUNK)])
