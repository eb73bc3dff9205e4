"""Networks from files of all kinds: what commands say of them, and whether they fit together. Free of torch."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from kd_cli.commands.results import Model
from kd_cli.config import ConfigError, DeviceConfig, DeviceName, KdError, some_of
from kd_cli.data.dataset import DataInfo
from kd_cli.data.sources import SOURCES
from kd_cli.networks.loaded import LoadedNetwork
from kd_cli.networks.onnx_file import OnnxNetwork

log = logging.getLogger(__name__)

Loaded = TypeVar("Loaded", bound=LoadedNetwork)


def open_exported(path: Path, run: DeviceConfig) -> OnnxNetwork:
    """An exported file.

    Raises:
        ConfigError: it is to run elsewhere than on the CPU.
        KdError: it is not there, damaged, or not from ``kd export``; or ONNX Runtime is missing.
    """
    require_cpu(run, f"{path} runs")
    return OnnxNetwork(path)


def require_cpu(run: DeviceConfig, what: str) -> None:
    """Refuse another device than the CPU, on which alone ``what`` can be done.

    Raises:
        ConfigError: there is one.
    """
    if run.device not in (DeviceName.auto, DeviceName.cpu):
        raise ConfigError(f"--device {run.device.value}: {what} on the CPU; leave the option out")


def describe_model(network: LoadedNetwork) -> Model:
    """What every result says of a network that it speaks of."""
    return Model(
        role=network.metadata.role.value,
        checkpoint=str(network.path),
        shipped=network.shipped,
        architecture=network.metadata.architecture,
        method=network.metadata.method,
        assumed=network.metadata.assumed,
        precision=network.precision.value,
    )


def require_fit(network: Loaded, data: DataInfo, named: bool = False) -> Loaded:
    """A network for images like those that it was trained on; its classes in the order of the data's.

    Folders of the same classes go together, with a notice where their images differ.

    Args:
        network: from whatever kind of file.
        data: the images.
        named: whether the user chose the network for these images, so that they may be of another data set.

    Raises:
        KdError: images of another shape, other classes, or, where neither is a user's own, another data set.
    """
    if not named:
        require_trained_on(network, data.name)
    require_same_kind(network, data)
    own, path = network.metadata.data, network.path
    if _of_folders(own, data) and own.digest != data.digest:
        log.warning(
            "%s was trained on other images of these classes, or another part of them: "
            "it may know some of the test images",
            path,
        )
    elif own.name != data.name:
        log.warning("%s was trained on %s, and is used on %s", path, own.name, data.name)
    return network if own.classes == data.classes else network.with_classes(data.classes)


def require_trained_on(network: LoadedNetwork, dataset: str) -> None:
    """Refuse a network of another data set, where neither is a user's own.

    Raises:
        KdError: names both.
    """
    own = network.metadata.data.name
    if own != dataset and {own, dataset} <= SOURCES.keys():
        raise KdError(
            f"{network.path} was trained on {own}, not on {dataset}: use --dataset {own}, or another checkpoint"
        )


def require_same_kind(network: LoadedNetwork, data: DataInfo) -> None:
    """Refuse a network for images of another shape, or with other classes.

    Raises:
        KdError: says what is different.
    """
    own, path = network.metadata.data, network.path
    if len(own.classes) != len(data.classes):
        raise KdError(
            f"{path} tells {len(own.classes)} classes apart, but {data.name} has {len(data.classes)}: "
            "use another checkpoint"
        )
    if own.shape != data.shape:
        can_resize = _of_folders(own, data) and own.shape[1] == own.shape[2]
        resize = f"--image-size {own.shape[1]}, or " if can_resize else ""
        raise KdError(f"{path} takes images of shape {own.shape}, not {data.shape}: use {resize}another checkpoint")
    if sorted(own.classes) != sorted(data.classes):
        raise KdError(
            f"{path} tells apart {some_of(own.classes, 10)}, but {data.name} has {some_of(data.classes, 10)}: "
            "use another checkpoint"
        )


def require_same_images(networks: Sequence[LoadedNetwork]) -> None:
    """Refuse a teacher and a student that were trained on other images than each other, or on other classes.

    Raises:
        KdError: names both.
    """
    first = networks[0].metadata.data
    for network in networks[1:]:
        data = network.metadata.data
        same_kind = (data.shape, data.is_handwriting) == (first.shape, first.is_handwriting)
        if not same_kind or set(data.classes) != set(first.classes):
            raise KdError(
                f"{network.path} was trained on other {'classes' if same_kind else 'images'} ({data.name}) than "
                f"{networks[0].path} ({first.name}): give a teacher and a student of the same data"
            )


def _of_folders(*data: DataInfo) -> bool:
    return not {each.name for each in data} & SOURCES.keys()
