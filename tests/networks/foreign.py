"""Networks as users write them: they know nothing of this program."""

from torch import Tensor, nn


class Block(nn.Module):
    """As torchvision's residual networks have it: one ReLU, in place, used twice."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm2d(2 * channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu(x + self.conv2(x))
        return out


class Residual(nn.Module):
    """A small network in the form of torchvision's resnet18."""

    def __init__(self, classes: int = 37) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layer1, self.layer2 = Block(4, 1), Block(8, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, classes)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.avgpool(self.layer2(self.layer1(self.stem(x)))).flatten(1))
        return logits

    def forward_features(self, x: Tensor) -> Tensor:
        """As timm's networks have it: a tensor, and no dictionary."""
        raise NotImplementedError


class TwoBranches(nn.Module):
    """A layer that gives a tuple, maps that are no squares, and a branch beside them."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.memory = nn.LSTM(6, 5, batch_first=True)
        self.wide = nn.Sequential(nn.Conv2d(3, 2, (3, 1)), nn.ReLU())
        self.heads = nn.ModuleDict({"a": nn.Linear(8, classes), "b": nn.Linear(5, classes)})

    def forward(self, x: Tensor) -> Tensor:
        first = self.heads["a"](self.wide(x).mean(dim=3).flatten(1))
        logits: Tensor = first + self.heads["b"](self.memory(x.mean(dim=1))[0][:, -1])
        return logits
