"""Which networks predict: those that are given, and those of a data set in place of others."""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from kd_cli.commands.checkpoints import load_network, require_models
from kd_cli.commands.network_files import require_same_kind, require_trained_on
from kd_cli.config import ConfigError, DataConfig, KdError, Role, RunConfig
from kd_cli.data import prepared
from kd_cli.data.dataset import DataInfo
from kd_cli.data.folders import NAME_ENDING
from kd_cli.networks.checkpoint import find_checkpoint, is_plain, require_readable
from kd_cli.networks.loaded import LoadedNetwork

log = logging.getLogger(__name__)


def choose_networks(
    data: DataConfig, run: RunConfig, given: Mapping[Role, Path | None], where: torch.device
) -> dict[Role, LoadedNetwork]:
    """The networks that are given and, in place of others, those of the data set, as far as it has any.

    Args:
        data: the data set that they were trained on.
        run: where networks are kept, and how plain state dicts are read.
        given: each role's file, or None to look for it.
        where: the device that computes; exported files run on the CPU.

    Raises:
        KdError: there is none, or one of them cannot be read, or is of another data set.
    """
    paths = {role: path for role, path in given.items() if path}
    for path in paths.values():
        require_readable(path)
    networks: dict[Role, LoadedNetwork] = {
        role: load_network(path, where, run) for role, path in paths.items() if not is_plain(path)
    }
    name = name_data(data.dataset, run.models_dir, _data_of(networks))
    missing = []
    for role in [role for role in given if role not in paths]:
        try:
            require_models(run, name)
            paths[role] = find_checkpoint(run.models_dir, name, role)
        except KdError as error:
            missing.append(error)
        else:
            networks[role] = load_network(paths[role], where, run)
    if not paths:
        raise missing[0]
    if missing:
        log.warning("the %s predicts alone: %s", next(iter(paths)).value, missing[0])
    named = None if data.dataset == "auto" else _describe_data(data, name, networks)
    about = named or _data_of(networks)
    networks = {
        role: networks.get(role) or load_network(paths[role], where, run, about) for role in given if role in paths
    }
    if named:
        for network in networks.values():
            require_same_kind(network, named)
    return networks


def _data_of(networks: Mapping[Role, LoadedNetwork]) -> DataInfo | None:
    return next((network.metadata.data for network in networks.values()), None)


def _describe_data(data: DataConfig, name: str, networks: Mapping[Role, LoadedNetwork]) -> DataInfo:
    """A data set that was named, as one of its networks knows it, or else from the data set itself.

    Raises:
        KdError: a network is of another one, or the data set cannot be had.
    """
    for network in networks.values():
        require_trained_on(network, name)
    known = [network.metadata.data for network in networks.values() if network.metadata.data.name == name]
    return known[0] if known else prepared.load(data, train=False).info


def name_data(data: str, models_dir: Path, about: DataInfo | None = None) -> str:
    """The name of the data set that networks were trained on, which need not be here.

    Args:
        data: its name or its folder; ``auto`` is what ``about`` describes, or MNIST.
        models_dir: where networks are.
        about: the data of a network that is given.

    Raises:
        ConfigError: there is no such data set.
    """
    if data == "auto":
        return about.name if about else "mnist"
    kept = os.listdir(models_dir) if os.path.isdir(models_dir) else []
    if data in kept:
        return data
    try:
        return prepared.name_of(DataConfig(data))
    except ConfigError:  # a folder of images that is not here, by its plain name
        named = [name for name in kept if re.fullmatch(re.escape(data) + NAME_ENDING, name)]
        if len(named) != 1:
            raise
        return named[0]
