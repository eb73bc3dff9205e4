"""Shuffled batches of a split, augmented on the way.

A split lives in one uint8 tensor on the device that trains, and a batch is a slice of it by index. A `DataLoader` over
single images spends ten times longer on loading than small networks spend on learning.
"""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from kd_cli.data.augmentation import apply_maps, draw_maps, draw_view
from kd_cli.data.dataset import Split, to_pixels
from kd_cli.data.seeds import spawn_seeds
from kd_cli.data.shares import ALONE, Share

BLOCK, BLOCK_BYTES = 512, 2**24
"""Images to look up and convert at a time, and the most memory for them: for a batch alone, starting the operations
takes longer than they do. A batch that needs more is a block by itself."""

PREFETCH_BYTES = 2**28
"""The images of a larger split may come from the disk, so the next block is looked up during the steps of one."""


@dataclass(frozen=True)
class Batch:
    """Pixels from 0 to 1, (B, C, H, W), their labels, (B,), and their rows in the training split, (B,).

    Where several processes train together, ``images`` are those of this process's ``share`` of the batch, and labels
    and rows are those of the whole batch. ``view`` is which of its fixed views each image is shown in, where there are
    any.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    view: int = 0
    share: Share = ALONE

    def gather(self, own: Tensor) -> Tensor:
        """What was computed of ``images``, for the whole batch: (B, ...)."""
        return self.share.gather(own, len(self.labels))


@dataclass(frozen=True)
class _Own:
    """A process's own rows in a block of batches: their places in it, and how many each batch has."""

    places: Tensor | slice
    sizes: int | list[int]


class BatchSource:
    """The batches of a run, epoch after epoch, in an order and with an augmentation of the run's own streams.

    Args:
        split: the images to learn from.
        batch_size: the last batch of an epoch may be smaller.
        seed: the run's.
        presets: the augmentations, of `config.AUGMENTATIONS`; none for images as they are.
        views: how many fixed views of each image to show in turn, one in each epoch, so that every image is shown
            equally often in each; 0 for images that are augmented anew.
        share: the part of each batch whose images are looked up. Order and augmentation do not depend on it.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        presets: Sequence[str] = (),
        views: int = 0,
        share: Share = ALONE,
    ) -> None:
        self.split, self.batch_size, self.presets, self.share = split, batch_size, presets, share
        self.views = views if presets else 0
        seeds = spawn_seeds(seed)
        # On the CPU, so that order and augmentation are the same on every device.
        self._order = torch.Generator().manual_seed(seeds.order)
        self._augmentation = torch.Generator().manual_seed(seeds.augmentation)
        self._epochs = 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.split) // self.batch_size)

    def epoch(self) -> Generator[Batch, None, None]:
        """Every image once."""
        split, size = self.split, self.split.images.shape[2:]
        order = torch.randperm(len(split), generator=self._order).to(split.images.device)
        view = self._epochs % self.views if self.views else 0
        maps = draw_view(self.presets, view, len(split), size).to(split.images.device) if self.views else None
        self._epochs += 1
        for rows, own, images in self._look_up(order.split(self._block_size())):
            if self.presets:
                drawn = draw_maps(self.presets, len(rows), size, self._augmentation) if maps is None else maps[rows]
                images = apply_maps(images, drawn[own.places], self.presets)
            whole = (tensor.split(self.batch_size) for tensor in (split.labels[rows], rows))
            for pixels, labels, index in zip(to_pixels(images).split(own.sizes), *whole, strict=True):
                yield Batch(pixels, labels, index, view, self.share)

    def _look_up(self, blocks: Sequence[Tensor]) -> Iterator[tuple[Tensor, "_Own", Tensor]]:
        """Block by block: rows, which of them are this process's own, and the images of these."""
        images = self.split.images
        if images.device.type != "cpu" or images.nbytes <= PREFETCH_BYTES:
            for rows in blocks:
                own = self._divide(len(rows))
                yield rows, own, images.index_select(0, rows[own.places])
            return
        pixels = images.numpy()

        def take(rows: Tensor) -> tuple[_Own, Tensor]:
            own = self._divide(len(rows))
            # Not by torch: its threads would take the cores from those of the steps, which then run at half the speed.
            return own, torch.from_numpy(pixels.take(rows[own.places].numpy(), axis=0))

        with ThreadPoolExecutor(1) as thread:
            following = thread.submit(take, blocks[0])
            for rows, after in zip(blocks, [*blocks[1:], None], strict=True):
                found = following.result()
                if after is not None:
                    following = thread.submit(take, after)
                yield rows, *found

    def _divide(self, count: int) -> "_Own":
        """This process's own rows in a block of ``count``."""
        if self.share.size == 1:
            return _Own(slice(None), self.batch_size)
        batches = torch.arange(count).split(self.batch_size)
        parts = [batch[self.share.of(len(batch))] for batch in batches]
        return _Own(torch.cat(parts), [len(part) for part in parts])

    def _block_size(self) -> int:
        images = min(BLOCK, BLOCK_BYTES // (4 * self.split.images[0].numel()))
        return self.batch_size * max(1, images // self.batch_size)

    def state_dict(self) -> dict[str, Tensor]:
        """Where the random streams are, and the epochs so far."""
        return {
            "order": self._order.get_state(),
            "augmentation": self._augmentation.get_state(),
            "epochs": torch.tensor(self._epochs),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from where `state_dict` was taken."""
        self._order.set_state(state["order"])
        self._augmentation.set_state(state["augmentation"])
        self._epochs = int(state["epochs"])
