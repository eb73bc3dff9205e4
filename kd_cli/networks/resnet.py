"""The residual networks for small images of He et al. 2016, section 4.2: ``resnet-20``, ``resnet-56`` and so on.

Their layers carry the names of published CIFAR checkpoints, so that those can be read.
"""

from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = (16, 32, 64)
"""Of the three stages. Each after the first halves height and width."""


class Block(nn.Module):
    """Two 3x3 convolutions, and a shortcut without parameters (option A): subsampled, padded with empty channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride), rounded up."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.added:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + shortcut)


class ResNet(nn.Module):
    """A 3x3 convolution, three stages of blocks with 16, 32 and 64 channels, the mean of each map, one Linear.

    He, Zhang, Ren & Sun 2016, "Deep Residual Learning for Image Recognition", section 4.2, with weights initialised as
    there (He et al. 2015). It takes images of any size, since the last maps are averaged.

    Args:
        depth: 6n + 2 layers, for n blocks in each stage.
        shape: (channels, height, width) of an image.
        classes: how many there are.
    """

    def __init__(self, depth: int, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = shape
        self.conv1 = nn.Conv2d(channels, CHANNELS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS[0])
        self.macs = height * width * self.conv1.weight.numel()
        inputs = CHANNELS[0]
        for stage, outputs in enumerate(CHANNELS, start=1):
            if stage > 1:
                height, width = -(-height // 2), -(-width // 2)
            blocks = [
                Block(inputs if first else outputs, outputs, 2 if first and stage > 1 else 1)
                for first in [True] + [False] * ((depth - 2) // 6 - 1)
            ]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            self.macs += height * width * sum(b.conv1.weight.numel() + b.conv2.weight.numel() for b in blocks)
            inputs = outputs
        self.linear = nn.Linear(inputs, classes)
        self.macs += self.linear.weight.numel()
        for module in self.modules():
            # A network of shapes alone has no values, and asking for them would import torch's compiler.
            if isinstance(module, nn.Conv2d | nn.Linear) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in ("layer1", "layer2", "layer3"):
            x = self.get_submodule(stage)(x)
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits
