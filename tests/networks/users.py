"""Networks as a user writes them, and what may be wrong with them."""

from typing import Any

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """With batch normalisation, dropout, a tied weight, and a constant that no state dict keeps."""

    def __init__(self, in_channels: int = 1, num_classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, num_classes)
        self.also_head = self.head
        self.register_buffer("one", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.relu(self.norm(self.conv(x)))
        return self.head(self.drop(maps.mean(dim=(2, 3)))) * self.one  # type: ignore[no-any-return]


def small() -> nn.Module:
    return Small()


def raises() -> nn.Module:
    raise ValueError("a reason\nin two lines")


def ends() -> nn.Module:
    raise SystemExit("a reason")


def no_module() -> Any:
    return "a network"


def headless() -> nn.Module:
    return nn.Flatten()


class TwoOutputs(Small):
    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


text = "no function"
