"""Shuffled batches of a split, augmented on the way.

A split lives in one uint8 tensor on the device that trains, and a batch is a slice of it by index. A `DataLoader` over
single images spends ten times longer on loading than small networks spend on learning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kd_cli.data.augmentation import augment
from kd_cli.data.dataset import Split, to_pixels
from kd_cli.data.seeds import spawn_seeds

BLOCK, BLOCK_BYTES = 512, 2**24
"""Images to look up and convert at a time, and the most memory for them: for a batch alone, starting the operations
takes longer than they do. A batch that needs more is a block by itself."""


@dataclass(frozen=True)
class Batch:
    """Pixels from 0 to 1, (B, C, H, W), their labels, (B,), and their rows in the training split, (B,)."""

    images: Tensor
    labels: Tensor
    index: Tensor


class BatchSource:
    """The batches of a run, epoch after epoch, in an order and with an augmentation of the run's own streams.

    Args:
        split: the images to learn from.
        batch_size: the last batch of an epoch may be smaller.
        seed: the run's.
        presets: the augmentations, of `config.AUGMENTATIONS`; none for images as they are.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, presets: Sequence[str] = ()) -> None:
        self.split, self.batch_size, self.presets = split, batch_size, presets
        seeds = spawn_seeds(seed)
        # On the CPU, so that order and augmentation are the same on every device.
        self._order = torch.Generator().manual_seed(seeds.order)
        self._augmentation = torch.Generator().manual_seed(seeds.augmentation)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.split) // self.batch_size)

    def epoch(self) -> Iterator[Batch]:
        """Every image once."""
        split = self.split
        order = torch.randperm(len(split), generator=self._order).to(split.images.device)
        for rows in order.split(self._block_size()):
            images = split.images.index_select(0, rows)
            if self.presets:
                images = augment(images, self.presets, self._augmentation)
            block = (to_pixels(images), split.labels[rows], rows)
            for parts in zip(*(tensor.split(self.batch_size) for tensor in block), strict=True):
                yield Batch(*parts)

    def _block_size(self) -> int:
        images = min(BLOCK, BLOCK_BYTES // (4 * self.split.images[0].numel()))
        return self.batch_size * max(1, images // self.batch_size)

    def state_dict(self) -> dict[str, Tensor]:
        """Where the random streams are."""
        return {"order": self._order.get_state(), "augmentation": self._augmentation.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from where `state_dict` was taken."""
        self._order.set_state(state["order"])
        self._augmentation.set_state(state["augmentation"])
