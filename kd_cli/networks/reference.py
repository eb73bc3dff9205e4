"""The reference networks, and how an architecture spec becomes one.

Every network gives logits from ``forward(x)`` and its named intermediate features from ``forward_features(x)``, where
``x`` is a normalised float tensor of shape (N, 1, 28, 28) and each feature carries the name of the layer it comes out
of.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.networks.spec import Spec

IMAGE_SIZE = 28
"""Height and width, in pixels, of the images that the reference networks take."""


class TeacherNet(nn.Module):
    """Conv2d(1, filters, 5) -> ReLU -> MaxPool2d(5, 5) -> Linear(16 filters, 128) -> ReLU -> Linear(128, classes).

    Computed in an order that gives the same values and gradients in a third of the time:

    * ReLU comes after the pool. Both are monotone, so they commute, and the pool leaves 25 times fewer values.
    * Only the top left 24x24 pixels are convolved: the pool's windows end at row and column 20 of the 24x24 feature
      map, so pixels 25 to 28 never reach the output.
    * Between convolution and pool a batch stays in the layout of oneDNN, the CPU library that computes both and their
      gradients. Other devices, and single images, keep it channels-last.
    """

    def __init__(self, filters: int = 32, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, filters, kernel_size=5)
        self.fc1 = nn.Linear(filters * 4 * 4, 128)
        self.fc2 = nn.Linear(128, classes)
        self.macs = 20 * 20 * self.conv1.weight.numel() + self.fc1.weight.numel() + self.fc2.weight.numel()

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """``conv1``: (N, filters, 4, 4), pooled; ``fc1``: (N, 128); ``fc2``: (N, classes), the logits."""
        seen, weight, bias = x[:, :, :24, :24], self.conv1.weight, self.conv1.bias
        if _suits_onednn(x):
            pooled = F.max_pool2d(F.conv2d(seen.contiguous().to_mkldnn(), weight, bias), 5, stride=5).to_dense()
        else:
            pooled = F.max_pool2d(F.conv2d(_channels_last(seen), _channels_last(weight), bias), 5)
        maps = F.relu(pooled)
        hidden = F.relu(self.fc1(maps.flatten(1)))
        return {"conv1": maps, "fc1": hidden, "fc2": self.fc2(hidden)}

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (N, classes) for ``x`` of shape (N, 1, 28, 28)."""
        return self.forward_features(x)["fc2"]


class StudentNet(nn.Module):
    """Flatten -> Linear -> ReLU, once per hidden size, -> Linear(., classes). Layers ``fc1``, ``fc2``, and so on."""

    def __init__(self, hidden: tuple[int, ...] = (128,), classes: int = 10) -> None:
        super().__init__()
        sizes = [IMAGE_SIZE * IMAGE_SIZE, *hidden, classes]
        self.layers = [f"fc{i}" for i in range(1, len(sizes))]
        self.macs = 0
        for name, inputs, outputs in zip(self.layers, sizes[:-1], sizes[1:], strict=True):
            self.add_module(name, nn.Linear(inputs, outputs))
            self.macs += inputs * outputs

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """``fc1``, ``fc2``, ...: (N, hidden size) after ReLU; the last one: (N, classes) logits."""
        features: dict[str, Tensor] = {}
        x = x.flatten(1)
        for name in self.layers:
            x = self.get_submodule(name)(x)
            if name != self.layers[-1]:
                x = F.relu(x)
            features[name] = x
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (N, classes) for ``x`` of shape (N, 1, 28, 28)."""
        return self.forward_features(x)[self.layers[-1]]


Network = TeacherNet | StudentNet


def build_network(spec: Spec, classes: int = 10) -> Network:
    """A freshly initialised network for ``spec``; its weights come from torch's global random stream."""
    if spec.family == "cnn":
        return TeacherNet(filters=spec.sizes[0], classes=classes)
    return StudentNet(spec.sizes, classes=classes)


def _suits_onednn(x: Tensor) -> bool:
    # For a few images the way into that layout and out of it takes longer than what it saves.
    return x.device.type == "cpu" and x.dtype == torch.float and len(x) >= 16 and torch.backends.mkldnn.is_available()


def _channels_last(x: Tensor) -> Tensor:
    # `contiguous(memory_format=...)` would leave a one-channel tensor as it is, since its layout is then ambiguous, and
    # the convolution would choose the slow layout. Spelling the strides out decides it.
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
