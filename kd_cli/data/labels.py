"""How many of the training labels a run may use, and what becomes of the pictures without one."""

import math
from dataclasses import replace

import torch

from kd_cli.data import Split
from kd_cli.settings import KdError, LabelBudget, Transfer

NO_LABEL = -100
"""What torch's cross-entropy takes for a missing label."""


def choose_labels(train: Split, budget: LabelBudget, seed: int, teacher: bool) -> Split:
    """The pictures to learn from when only a fraction of them, the same for each class, may be used with its label.

    Which ones is decided by the seed. With ``transfer`` all, a student with a ``teacher`` sees the others too, marked
    as unlabelled; one without repeats the labelled pictures, so that both take equally many steps per epoch.

    Raises:
        KdError: there would be fewer labels than classes.
    """
    if budget.fraction == 1:
        return train
    from sklearn.model_selection import train_test_split  # takes a while to import

    classes, count = len(train.labels.unique()), math.floor(budget.fraction * len(train))
    if count < classes:
        raise KdError(
            f"--train-fraction {budget.fraction:g} leaves {count} of {len(train):,} labels for {classes} classes: "
            f"use {classes / len(train):.2g} or more"
        )
    if count > len(train) - classes:  # a stratified choice needs as many on the other side
        return train
    rows, _ = train_test_split(range(len(train)), train_size=count, stratify=train.labels.cpu(), random_state=seed)
    chosen = torch.tensor(rows, device=train.labels.device)
    if budget.transfer is Transfer.labelled:
        return Split(train.images[chosen], train.labels[chosen])
    if teacher:
        labels = torch.full_like(train.labels, NO_LABEL)
        labels[chosen] = train.labels[chosen]
        return replace(train, labels=labels)
    repeated = chosen.repeat(math.ceil(len(train) / count))[: len(train)]
    return Split(train.images[repeated], train.labels[repeated])
