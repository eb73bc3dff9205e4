"""Classes as users name them, and the images of some of them."""

from collections.abc import Sequence

import torch

from kd_cli.config import ConfigError, LabelConfig, some_of, suggest
from kd_cli.data.dataset import Split

SHOWN = 10
"""Names of classes in an error: a data set may have thousands."""


def find_class(text: str, classes: Sequence[str]) -> int:
    """The label of a class that is given by its name, or else by its number from 0.

    Raises:
        ConfigError: there is no such class; names those that there are.
    """
    if text not in classes and text.isdecimal() and int(text) < len(classes):
        return int(text)
    if text not in classes:
        hint = suggest(text, classes)
        raise ConfigError(f"unknown class {text!r}{f' ({hint})' if hint else ''}: use {some_of(classes, SHOWN)}")
    return classes.index(text)


def choose_classes(config: LabelConfig, classes: Sequence[str]) -> list[int]:
    """The labels of the classes whose images a student is trained with.

    Raises:
        ConfigError: one of those named does not exist, or none is left.
    """
    if config.only_classes:
        return sorted({find_class(name, classes) for name in config.only_classes})
    omitted = {find_class(name, classes) for name in config.omit_class}
    if len(omitted) == len(classes):
        raise ConfigError(f"--omit-class {','.join(config.omit_class)} leaves no class to train with: name fewer")
    return [label for label in range(len(classes)) if label not in omitted]


def keep_classes(split: Split, config: LabelConfig, classes: Sequence[str]) -> Split:
    """The images of `choose_classes` alone, in their order.

    Raises:
        ConfigError: as there, or there is no such image.
    """
    if not (config.omit_class or config.only_classes):
        return split
    kept = torch.tensor(choose_classes(config, classes), device=split.labels.device)
    rows = torch.isin(split.labels, kept)
    if not rows.any():
        raise ConfigError("there is no training image of the classes that are left: name others")
    return Split(split.images[rows], split.labels[rows])
