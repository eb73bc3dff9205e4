"""Teachers' outputs for the training images: computed once for each image, or each of its views, where valid."""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from kd_cli.config import FORWARD_CHUNK, TrainingPrecision
from kd_cli.data.augmentation import apply_maps, draw_view
from kd_cli.data.batches import Batch
from kd_cli.data.dataset import Split, to_pixels
from kd_cli.distillation.output_cache import OutputCache
from kd_cli.networks.classifier import Classifier
from kd_cli.networks.features import Layer
from kd_cli.training.group import GROUP_OF_ONE, Group
from kd_cli.training.precision import with_precision

Outputs = Callable[[Batch], Tensor]
"""A teacher's outputs for a batch of training images, (B, ...), without gradients."""

MEMORY_BYTES = 2**28
"""Outputs that take more memory than this are computed anew for each batch."""

MACS_WORTH_KEEPING = 5 * 10**10
"""Outputs that take at least as many multiply-accumulates, a few seconds, go to the disk. MNIST's take half, 0.6 s."""

COMPARED = 16
"""Images for which outputs from the disk are computed again, to find out that they are another network's."""

BAR_DELAY = 2.0
"""Seconds after which a progress bar appears."""


class TeacherOutputs:
    """The outputs of one or more teachers for a split of training images.

    They are computed once and looked up by the image's row in the split, never by its position in a batch, so that
    shuffling cannot give an image the outputs of another. Of augmented images, only fixed views have outputs that can
    be looked up; without any, each batch's are computed.

    Args:
        classifiers: the teachers.
        split: the images that the student is trained with.
        presets: the augmentations that it is trained with.
        views: how many fixed views of each augmented image it sees, as `BatchSource`.
        cache: outputs on disk.
        quiet: show no progress bar.
        precision: of teachers that are live. What is computed once has 32 bits, and serves every run.
        group: the processes that train together. Each computes its share of what is computed once.
    """

    def __init__(
        self,
        classifiers: Sequence[Classifier],
        split: Split,
        presets: Sequence[str] = (),
        views: int = 0,
        cache: OutputCache | None = None,
        quiet: bool = False,
        precision: TrainingPrecision = TrainingPrecision.fp32,
        group: Group = GROUP_OF_ONE,
    ) -> None:
        self.classifiers = [classifier.eval() for classifier in classifiers]
        self.live = [with_precision(classifier, precision) for classifier in self.classifiers]
        self.split, self.presets, self.views = split, presets, views
        self.cache, self.quiet, self.group = cache, quiet or not group.is_first, group
        self._outputs: dict[str, Outputs] = {}
        self._digest = ""

    @property
    def worth_keeping(self) -> bool:
        """Whether outputs that are computed once take long enough to be kept on disk; those of unknown cost do."""
        macs = sum(classifier.known_macs or math.inf for classifier in self.classifiers)
        return len(self.split) * macs >= MACS_WORTH_KEEPING

    @property
    def files(self) -> list[Path]:
        """Those that outputs were read from, or written to."""
        return self.cache.used if self.cache else []

    def logits(self, temperature: float | None) -> Outputs:
        """The teacher's logits, (B, classes); `average_logits` at this temperature where there are several teachers."""
        if len(self.classifiers) == 1:
            return self._prepare("logits", lambda teachers, pixels: teachers[0](pixels))
        average = lambda teachers, pixels: average_logits(teachers, pixels, temperature)  # noqa: E731
        return self._prepare(f"average at temperature {temperature}", average)

    def features(self, layer: Layer) -> Outputs:
        """What a layer of the only teacher gives.

        Raises:
            ValueError: there are several teachers.
        """
        if len(self.classifiers) > 1:
            raise ValueError("features of several teachers")
        return self._prepare(f"layer {layer}", lambda teachers, pixels: layer.read(teachers[0], pixels)[0])

    @torch.no_grad()
    def _prepare(self, reads: str, read: Callable[[Sequence[Classifier], Tensor], Tensor]) -> Outputs:
        compute = partial(read, self.classifiers)
        if reads not in self._outputs:
            looks = self.views if self.presets else 1
            one = compute(to_pixels(self.split.images[:1]))
            fits = one.nbytes * len(self.split) * looks <= MEMORY_BYTES
            if looks and fits:
                kept = [self._find_or_compute(reads, compute, look) for look in range(looks)]
                self._outputs[reads] = _LookedUp(kept, bool(self.presets))
            else:
                self._outputs[reads] = _Live(partial(read, self.live))
        return self._outputs[reads]

    def _find_or_compute(self, reads: str, compute: Callable[[Tensor], Tensor], view: int) -> Tensor:
        """The outputs for all images in a view, or as they are where nothing augments them: (N, ...)."""
        count, device = len(self.split), self.split.images.device
        maps = draw_view(self.presets, view, count, self.split.images.shape[2:]) if self.presets else None

        def compute_some(first: int, last: int) -> Tensor:
            images = self.split.images[first:last]
            if maps is not None:
                images = apply_maps(images, maps[first:last], self.presets)
            return compute(to_pixels(images))

        details = {"reads": reads, "augment": list(self.presets), "view": view}
        cache = self.cache if self.worth_keeping else None

        def find() -> Tensor | None:
            assert cache is not None
            details["images"] = self._digest_images()
            return cache.find(details, compute_some(0, COMPARED), count)

        if cache and (found := self.group.from_first(find)) is not None:
            return found.to(device)
        own = self.group.of(count)
        bar = tqdm(total=own.stop - own.start, unit="image", disable=self.quiet or None, leave=False, delay=BAR_DELAY)
        with bar:
            bar.set_description(
                f"teacher's outputs, view {view + 1}/{self.views}" if self.views else "teacher's outputs"
            )
            outputs: Tensor | None = None
            for first in range(own.start, own.stop, FORWARD_CHUNK):
                some = compute_some(first, min(first + FORWARD_CHUNK, own.stop))
                if outputs is None:
                    outputs = some.new_empty(own.stop - own.start, *some.shape[1:])
                outputs[first - own.start : first - own.start + len(some)] = some
                bar.update(len(some))
        assert outputs is not None  # there are images
        outputs = self.group.gather(outputs, count)
        if cache and self.group.is_first:
            cache.keep(details, outputs)
        return outputs

    def _digest_images(self) -> str:
        """Of the images themselves: whichever part of a data set they are, equal images have equal outputs."""
        if not self._digest:
            digest = hashlib.sha256(str(self.split.images.shape).encode())
            for chunk in self.split.images.split(FORWARD_CHUNK):
                digest.update(chunk.cpu().contiguous().numpy().data)
            self._digest = digest.hexdigest()
        return self._digest


class _LookedUp:
    """Outputs that are known: (N, ...) for each view, or for the images as they are."""

    def __init__(self, views: Sequence[Tensor], augmented: bool) -> None:
        self.views, self.augmented = views, augmented

    def __call__(self, batch: Batch) -> Tensor:
        return self.views[batch.view].index_select(0, batch.index)

    def __str__(self) -> str:
        count = len(self.views)
        of_views = f" for {count} view{'s' if count > 1 else ''} of each image" if self.augmented else ""
        return f"computed once{of_views}"


class _Live:
    """Outputs that are computed when they are asked for."""

    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        self.compute = compute

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        return batch.gather(self.compute(batch.images))

    def __str__(self) -> str:
        return "live"


def describe_teachers(digests: Sequence[str], classifiers: Sequence[Classifier]) -> dict[str, Any]:
    """What decides teachers' outputs, for `OutputCache`: their checkpoints, and what was said of them on top."""
    buffers = [
        {name: buffer.tolist() for name, buffer in classifier.named_buffers(recurse=False)}
        for classifier in classifiers
    ]
    return {"teachers": list(digests), "normalisation": buffers}


def average_logits(classifiers: Sequence[Classifier], pixels: Tensor, temperature: float | None) -> Tensor:
    """Logits z whose ``softmax(z / T)`` is the mean of the classifiers'; where T is None, the mean of their logits.

    Hinton et al. 2015, section 3: an ensemble's soft targets are the mean of its members' softened probabilities.

    Args:
        classifiers: at least one.
        pixels: from 0 to 1, (N, C, H, W).
        temperature: T > 0, or None for methods that compare the logits themselves.

    Returns:
        (N, classes).
    """
    logits = torch.stack([classifier(pixels) for classifier in classifiers])
    if temperature is None:
        return logits.mean(dim=0)
    # The logarithm of the sum: that of the mean differs by a constant, which no softmax sees.
    return temperature * torch.log_softmax(logits / temperature, dim=2).logsumexp(dim=0)
