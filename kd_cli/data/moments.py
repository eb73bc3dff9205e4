"""Mean and standard deviation of pixels."""

import torch
from torch import Tensor


class Moments:
    """Those of each channel, on a scale where white is 1, of images that come in pieces."""

    def __init__(self) -> None:
        self.counts = torch.zeros(1, 256, dtype=torch.long)  # of each value: exact, whatever the pieces

    def add(self, images: Tensor) -> None:
        """Take in more images, uint8 (N, C, H, W)."""
        channels = images.transpose(0, 1).flatten(1)
        self.counts = self.counts + torch.stack([channel.bincount(minlength=256) for channel in channels])

    def describe(self) -> dict[str, tuple[float, ...]]:
        """``mean`` and ``std`` of all images so far, one for each channel."""
        values, count = torch.arange(256, dtype=torch.double) / 255, self.counts.sum(dim=1)
        mean = (self.counts * values).sum(dim=1) / count.clamp(min=1)
        squares = (self.counts * (values - mean.unsqueeze(1)).square()).sum(dim=1)
        std = (squares / (count - 1).clamp(min=1)).sqrt().clamp(min=1e-4)
        return {"mean": tuple(mean.tolist()), "std": tuple(std.tolist())}
