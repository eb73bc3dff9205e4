"""Networks that are not ours: of torchvision, of timm, and the user's own."""

import functools
import hashlib
import importlib
import inspect
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from kd_cli.config import ConfigError, suggest
from kd_cli.networks.spec import Spec

LIBRARIES = ("torchvision", "timm")

TRIAL_IMAGES = 2
"""How many images a network is tried with: batch normalisation takes no less while training."""


def build_foreign(spec: Spec, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A fresh network of a library, or of a user's factory, tried on a batch of black images.

    Raises:
        ConfigError: there is no such network, it cannot be made, or it does not turn such images into so many logits.
    """
    builders = {"torchvision": _from_torchvision, "timm": _from_timm, "own": _from_factory}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' remarks on weights that are not asked for
        network = builders[spec.family](spec, shape[0], classes)
    if not torch.empty(0).is_meta:  # else it is built for its shapes alone
        _try(network, spec, shape, classes)
    return network


def import_source(source: str) -> ModuleType:
    """Import a user's module, or file: only one that the user named, or trusts.

    As Python does with a script or ``-m``, neighbours of the file, and modules in the working folder, are found.

    Raises:
        ConfigError: it cannot be imported.
    """
    path = Path(source)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise ConfigError(f"no file {source}: check the path of the network")
    try:
        with _found_in(path.parent.resolve() if is_file else Path.cwd()):
            return _import_file(path.resolve(), path.read_bytes()) if is_file else importlib.import_module(source)
    except (Exception, SystemExit) as error:  # it is the user's code, which may raise anything
        raise ConfigError(f"cannot import {source}: {one_line(error)}") from error


@functools.lru_cache(maxsize=64)
def _import_file(path: Path, content: bytes) -> ModuleType:
    """Anew only when its content is another."""
    module = ModuleType(f"{path.stem}_{hashlib.sha256(content).hexdigest()[:16]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look there
    exec(compile(content, str(path), "exec"), vars(module))
    return module


def source_digest(source: str) -> str:
    """SHA-256 of the file of a user's module that was imported before, or of a user's file."""
    file = source if source.endswith(".py") else getattr(sys.modules.get(source), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes() if file else b"").hexdigest()


def library_versions() -> dict[str, str]:
    """The versions of the libraries whose networks are used, as far as they are installed."""
    versions = {}
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def one_line(error: BaseException) -> str:
    """What went wrong in code that is not ours, in a line."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first[:300]}" if first else type(error).__name__


def _from_torchvision(spec: Spec, channels: int, classes: int) -> nn.Module:
    from torchvision import models

    _require_known(spec, models.list_models(module=models))
    if channels != 3:
        raise ConfigError(
            f"{spec} takes images of 3 channels, not of {channels}: use timm:NAME, which takes any number, or resnet-N"
        )
    return _call(spec, models.get_model, name=spec.name, weights=None, num_classes=classes)


def _from_timm(spec: Spec, channels: int, classes: int) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f"{spec} needs timm: pip install 'kd-cli[timm]'") from error
    if not timm.is_model(spec.name):
        _require_known(spec, timm.list_models())
    return _call(
        spec, timm.create_model, model_name=spec.name, pretrained=False, num_classes=classes, in_chans=channels
    )


def _from_factory(spec: Spec, channels: int, classes: int) -> nn.Module:
    factory = getattr(import_source(spec.source), spec.factory, None)
    if not callable(factory):
        raise ConfigError(f"{spec.source} has no function {spec.factory}: name one that returns a network")
    try:
        taken = list(inspect.signature(factory).parameters)
    except ValueError:  # one that is written in C
        taken = []
    offered = {"num_classes": classes, "in_channels": channels}
    return _call(spec, factory, **{name: value for name, value in offered.items() if name in taken})


def _call(spec: Spec, make: object, **arguments: object) -> nn.Module:
    try:
        network = make(**arguments)  # type: ignore[operator]
    except (Exception, SystemExit) as error:
        raise ConfigError(f"cannot make {spec}: {one_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{spec} gave {type(network).__name__}, not a torch.nn.Module: let it return a network")
    return network


def _try(network: nn.Module, spec: Spec, shape: tuple[int, int, int], classes: int) -> None:
    """Both ways in which it will be called, leaving it as it was."""
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    for training in (True, False):
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                logits = network.train(training)(torch.zeros(TRIAL_IMAGES, *shape))
        except Exception as error:
            raise ConfigError(f"{spec} does not take images of shape {shape}: {one_line(error)}") from error
        if not isinstance(logits, Tensor) or logits.shape != (TRIAL_IMAGES, classes):
            given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigError(
                f"{spec} gives {given} for {TRIAL_IMAGES} images, not {(TRIAL_IMAGES, classes)}: "
                f"use a network that gives a logit for each of the {classes} classes"
            )
    network.train()
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name in before:
                buffer.copy_(before[name])


def _require_known(spec: Spec, names: list[str]) -> None:
    if spec.name in names:
        return
    hint = suggest(spec.name, names, 3)
    raise ConfigError(
        f"{spec.family} has no classifier {spec.name!r}{f' ({hint})' if hint else ''}: "
        f"use a name such as {spec.family}:resnet18"
    )


@contextmanager
def _found_in(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
