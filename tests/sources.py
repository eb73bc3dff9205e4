"""Data sets of the tests' own, with names that ``--dataset`` takes."""

import pytest

from kd_cli.data.dataset import Dataset
from kd_cli.data.sources import SOURCES, Source


def register(patch: pytest.MonkeyPatch, name: str, dataset: Dataset) -> None:
    """Offer a data set, in this process, under a name."""
    tensors = {
        f"{split}.{kind}": tensor
        for split, part in (("train", dataset.train), ("test", dataset.test))
        for kind, tensor in (("images", part.images), ("labels", part.labels.byte()))
    }
    patch.setitem(SOURCES, name, Source(name, dataset.info.classes, lambda archives, scratch: tensors))
