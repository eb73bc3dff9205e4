"""Classifiers: pixels in, logits out. Each brings its own normalisation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kd_cli.config import FORWARD_CHUNK
from kd_cli.data.dataset import DataInfo, to_pixels
from kd_cli.networks.build import build_network
from kd_cli.networks.reference import TeacherNet
from kd_cli.networks.spec import Spec


class Classifier(nn.Module):
    """A network behind the normalisation that it was trained with.

    It takes pixels from 0 to 1, (N, C, H, W), so that teacher and student may be normalised differently, and nothing
    around it needs to know how.

    Args:
        network: any module that turns normalised images into logits, (N, classes).
        mean: of each channel.
        std: of each channel.
        shape: (channels, height, width) of an image.
        order: for each class of the data, the network's number of it, where the two count their classes differently.
    """

    mean: Tensor
    inverse_std: Tensor
    order: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        shape: tuple[int, int, int],
        order: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        # The layout in which CPUs and GPUs convolve several channels fastest. TeacherNet chooses its own.
        convolves = any(isinstance(module, nn.Conv2d) for module in network.modules())
        self.channels_last = convolves and not isinstance(network, TeacherNet)
        self.network = network.to(memory_format=torch.channels_last) if self.channels_last else network
        self.shape = shape
        # Not part of the weights: a checkpoint keeps them in its description.
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("inverse_std", 1 / torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.register_buffer("order", None if order is None else torch.tensor(order), persistent=False)
        self._counted_macs: int | None = None

    @property
    def known_macs(self) -> int | None:
        """Multiply-accumulates for one image, where the network says or they were counted already."""
        known = getattr(self.network, "macs", None)
        return known if isinstance(known, int) else self._counted_macs

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image. A network that does not say is run once, and they are counted."""
        if (known := self.known_macs) is not None:
            return known
        self._counted_macs = count_macs(self, torch.zeros(1, *self.shape, device=self.mean.device))
        return self._counted_macs

    def use_channels_last(self, on: bool) -> None:
        """Convolve in the layout (N, H, W, C), or in torch's own."""
        self.channels_last = on
        self.network.to(memory_format=torch.channels_last if on else torch.contiguous_format)

    def reorder(self, order: tuple[int, ...]) -> "Classifier":
        """The same classifier for data that count the classes in another order; ``order`` as above."""
        mean, std = (tuple(each.flatten().tolist()) for each in (self.mean, 1 / self.inverse_std))
        made = Classifier(self.network, mean, std, self.shape, order).to(self.mean.device)
        return made.train(self.training)

    def forward_features(self, pixels: Tensor) -> dict[str, Tensor]:
        """The network's features by the names of its layers, in their order; the last ones are the logits."""
        features: dict[str, Tensor] = self.network.forward_features(self._normalise(pixels))  # type: ignore[operator]
        if self.order is not None:
            *_, last = features
            features[last] = features[last].index_select(1, self.order)
        return features

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels from 0 to 1, (N, C, H, W) -> logits, (N, classes)."""
        logits: Tensor = self._modules["network"](self._normalise(pixels))  # type: ignore[misc]
        order = self._buffers["order"]
        return logits if order is None else logits.index_select(1, order)

    # `nn.Module` finds its buffers and modules by attribute only after it has looked in other places. For one image
    # that takes as long as the arithmetic.
    def _normalise(self, pixels: Tensor) -> Tensor:
        buffers = self._buffers
        images = (pixels - buffers["mean"]).mul_(buffers["inverse_std"])  # type: ignore[operator, arg-type]
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images


def build_classifier(spec: Spec, data: DataInfo) -> Classifier:
    """A fresh classifier for images like these; its weights come from torch's global random stream.

    Raises:
        ConfigError: as `build_network`.
    """
    return Classifier(build_network(spec, data.shape, len(data.classes)), data.mean, data.std, data.shape)


@torch.no_grad()
def count_macs(network: nn.Module, pixels: Tensor) -> int:
    """Multiply-accumulates that ``network`` carries out for ``pixels``: half of its floating-point operations."""
    from torch.utils.flop_counter import FlopCounterMode  # imports torch's compiler

    training = network.training
    with FlopCounterMode(display=False) as counter:
        network.eval()(pixels)
    network.train(training)
    return int(counter.get_total_flops()) // 2


def count_parameters(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def compute_logits(classifier: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Logits, (N, classes), of uint8 images (N, C, H, W), without gradients and in bounded memory.

    ``classifier`` may be any function of pixels from 0 to 1 that gives one row for each image.
    """
    return torch.cat([classifier(to_pixels(chunk)) for chunk in images.split(FORWARD_CHUNK)])
