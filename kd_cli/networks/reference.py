"""The reference networks of the first hour: a small convolutional teacher, and a student of Linear layers.

Every network gives logits from ``forward(x)`` and its named intermediate features from ``forward_features(x)``, where
``x`` is a normalised float tensor (N, C, H, W) and each feature carries the name of the layer it comes out of.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.config import ConfigError
from kd_cli.networks.max_norm import MaxNormLinear
from kd_cli.networks.spec import UNREGULARISED, Regularisation

IMAGE_SHAPE = (1, 28, 28)
"""(C, H, W) of the images that the reference networks are documented for."""

SMALLEST = 9
"""Height and width that a 5x5 convolution and a 5x5 pool need."""


class TeacherNet(nn.Module):
    """Conv2d(1, filters, 5) -> ReLU -> MaxPool2d(5, 5) -> Linear(16 filters, 128) -> ReLU -> Linear(128, classes).

    That is for MNIST's 1x28x28. Other images, of 9x9 pixels or more, pass through the same layers: the convolution
    reads all their channels, the first Linear all ``filters * ((H - 4) // 5) * ((W - 4) // 5)`` values of the pool.

    Computed in an order that gives the same values and gradients in a third of the time:

    * ReLU comes after the pool. Both are monotone, so they commute, and the pool leaves 25 times fewer values.
    * Only the top left 24x24 pixels are convolved: the pool's windows end at row and column 20 of the 24x24 feature
      map, so pixels 25 to 28 never reach the output. Images of other sizes are cropped likewise.
    * Between convolution and pool a batch stays in the layout of oneDNN, the CPU library that computes both and their
      gradients. Other devices, and single images, keep it channels-last.
    """

    def __init__(self, filters: int = 32, shape: tuple[int, int, int] = IMAGE_SHAPE, classes: int = 10) -> None:
        super().__init__()
        channels, height, width = shape
        if min(height, width) < SMALLEST:
            raise ConfigError(
                f"cnn-{filters} takes images of {SMALLEST}x{SMALLEST} pixels or more, not {height}x{width}: "
                "use larger ones, resnet-N or mlp-N"
            )
        rows, columns = (height - 4) // 5, (width - 4) // 5
        self.seen = (5 * rows + 4, 5 * columns + 4)
        self.conv1 = nn.Conv2d(channels, filters, kernel_size=5)
        self.fc1 = nn.Linear(filters * rows * columns, 128)
        self.fc2 = nn.Linear(128, classes)
        self.macs = 25 * rows * columns * self.conv1.weight.numel() + self.fc1.weight.numel() + self.fc2.weight.numel()

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """``conv1``: (N, filters, 4, 4), pooled, for 28x28; ``fc1``: (N, 128); ``fc2``: (N, classes), the logits."""
        seen, weight, bias = x[:, :, : self.seen[0], : self.seen[1]], self.conv1.weight, self.conv1.bias
        if _suits_onednn(x):
            pooled = F.max_pool2d(F.conv2d(seen.contiguous().to_mkldnn(), weight, bias), 5, stride=5).to_dense()
        else:
            pooled = F.max_pool2d(F.conv2d(_channels_last(seen), _channels_last(weight), bias), 5)
        maps = F.relu(pooled)
        hidden = F.relu(self.fc1(maps.flatten(1)))
        return {"conv1": maps, "fc1": hidden, "fc2": self.fc2(hidden)}

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (N, classes)."""
        return self.forward_features(x)["fc2"]


class StudentNet(nn.Module):
    """Flatten -> Linear -> ReLU, once per hidden size, -> Linear(., classes). Layers ``fc1``, ``fc2``, and so on.

    Images of any shape are flattened. While it is trained, dropout changes what a layer reads. The features are those
    before dropout.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (128,),
        shape: tuple[int, int, int] = IMAGE_SHAPE,
        classes: int = 10,
        regularisation: Regularisation = UNREGULARISED,
    ) -> None:
        super().__init__()
        sizes = [math.prod(shape), *hidden, classes]
        max_norm = regularisation.max_norm
        self.layers = [f"fc{i}" for i in range(1, len(sizes))]
        self.macs = 0
        for name, inputs, outputs in zip(self.layers, sizes[:-1], sizes[1:], strict=True):
            if max_norm is None or name == self.layers[-1]:
                layer = nn.Linear(inputs, outputs)
            else:
                layer = MaxNormLinear(inputs, outputs, max_norm)
            self.add_module(name, layer)
            self.macs += inputs * outputs
        shares = [regularisation.input_dropout, *[regularisation.dropout] * len(hidden)]
        self.dropout = dict(zip(self.layers, shares, strict=True)) if any(shares) else None

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """``fc1``, ``fc2``, ...: (N, hidden size) after ReLU; the last one: (N, classes) logits."""
        features: dict[str, Tensor] = {}
        x = x.flatten(1)
        last = self.layers[-1]
        # To look a layer up by its name takes longer than ReLU, where there is one image.
        dropout = self.dropout if self.training else None
        for name, layer in self._modules.items():
            if dropout:
                x = F.dropout(x, dropout[name])
            x = layer(x)  # type: ignore[misc]
            features[name] = x = x if name == last else F.relu(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (N, classes)."""
        return self.forward_features(x)[self.layers[-1]]


def _suits_onednn(x: Tensor) -> bool:
    if torch.compiler.is_compiling():  # a graph is for any number of images, and whoever runs it chooses its layouts
        return False
    if torch.is_autocast_enabled("cpu"):  # which does not know that layout
        return False
    # For a few images the way into that layout and out of it takes longer than what it saves.
    return len(x) >= 16 and x.device.type == "cpu" and x.dtype == torch.float and torch.backends.mkldnn.is_available()


def _channels_last(x: Tensor) -> Tensor:
    # `contiguous(memory_format=...)` would leave a one-channel tensor as it is, since its layout is then ambiguous, and
    # the convolution would choose the slow layout. Spelling the strides out decides it.
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
