"""How many of the training labels a run may use, and what becomes of the images without one."""

import math
from dataclasses import replace

import torch

from kd_cli.config import ConfigError, LabelConfig, Transfer
from kd_cli.data.dataset import Split
from kd_cli.data.seeds import spawn_seeds

NO_LABEL = -100
"""What torch's cross-entropy takes for a missing label."""


def choose_labels(train: Split, config: LabelConfig, seed: int, teacher: bool) -> Split:
    """The images to learn from when only a fraction of them, the same for each class, may be used with its label.

    Which ones is decided by the seed. With ``transfer`` all, a student with a ``teacher`` sees the others too, marked
    as unlabelled; one without repeats the labelled images, so that both take equally many steps per epoch.

    Raises:
        ConfigError: there would be fewer labels than classes, or so many that a class cannot leave one out.
    """
    if config.train_fraction == 1:
        return train
    from sklearn.model_selection import train_test_split  # takes a while to import

    classes, count = len(train.labels.unique()), math.floor(config.train_fraction * len(train))
    if not classes <= count <= len(train) - classes:
        least = math.ceil(1e6 * classes / len(train)) / 1e6
        raise ConfigError(
            f"--train-fraction {config.train_fraction:g} uses {count:,} of {len(train):,} labels, which {classes} "
            f"classes cannot share evenly: use {least:g} to {1 - least:g}, or 1"
        )
    if train.labels.unique(return_counts=True)[1].min() < 2:
        raise ConfigError("--train-fraction needs at least two images of each class: use 1")
    rows, _ = train_test_split(
        range(len(train)), train_size=count, stratify=train.labels.cpu(), random_state=spawn_seeds(seed).labels
    )
    chosen = torch.tensor(rows, device=train.labels.device)
    if config.transfer is Transfer.labelled:
        return Split(train.images[chosen], train.labels[chosen])
    if teacher:
        labels = torch.full_like(train.labels, NO_LABEL)
        labels[chosen] = train.labels[chosen]
        return replace(train, labels=labels)
    repeated = chosen.repeat(math.ceil(len(train) / count))[: len(train)]
    return Split(train.images[repeated], train.labels[repeated])
