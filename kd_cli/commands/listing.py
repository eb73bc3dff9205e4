"""``kd list``: what there is to choose from. Free of torch, but for the layers of a network."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from kd_cli.config import DataConfig, ImagesConfig, KdError
from kd_cli.data.sources import SOURCES
from kd_cli.distillation.methods import LEARNING_RATES, METHODS, Range
from kd_cli.networks.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ListedMethod:
    """A method: where it is from, what it reads, its options with their defaults, and where kd tune searches them."""

    name: str
    paper: str
    equation: str
    reads: str
    options: dict[str, float]
    ranges: dict[str, Range]


@dataclass(frozen=True)
class MethodList:
    """All methods, and where kd tune searches the learning rate of each."""

    methods: tuple[ListedMethod, ...]
    learning_rates: Range


@dataclass(frozen=True)
class ListedDataset:
    """A data set that has a name: its classes, and the shape (C, H, W) of its images."""

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class DatasetList:
    """All data sets that have a name."""

    datasets: tuple[ListedDataset, ...]


@dataclass(frozen=True)
class NetworkFamily:
    """How networks of one kind are named; ``count`` is the number of a library's names, None where it is not there."""

    spec: str
    examples: tuple[str, ...]
    description: str
    count: int | None = None


@dataclass(frozen=True)
class NetworkList:
    """All kinds of networks."""

    networks: tuple[NetworkFamily, ...]


@dataclass(frozen=True)
class ListedLayer:
    """A layer that an image goes through: its name, its type, and the shape of its output, None if that is no tensor.

    A layer that is used several times stands where it is used last.
    """

    name: str
    type: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class LayerList:
    """The layers of a network for images of a shape, and where methods read it unless told otherwise.

    ``penultimate`` is ``input of NAME``, or in the package's own networks ``NAME``; ``maps`` is the name of the last
    layer that gives maps. They are None where the network has no such layer.
    """

    architecture: str
    image_shape: tuple[int, int, int]
    classes: int
    layers: tuple[ListedLayer, ...]
    penultimate: str | None
    maps: str | None


def list_methods() -> MethodList:
    """Every method, from its row."""
    return MethodList(
        tuple(
            ListedMethod(name, row.paper, row.equation, row.reads.value, dict(row.options), dict(row.ranges))
            for name, row in METHODS.items()
        ),
        LEARNING_RATES,
    )


def list_networks() -> NetworkList:
    """Every kind of network that ``--arch``, ``--student`` and ``--teacher-arch`` accept."""
    return NetworkList(
        (
            NetworkFamily("cnn-N", ("cnn-8", "cnn-32"), "5x5 convolution with N filters, pool, two linear layers"),
            NetworkFamily("mlp-N[-M...]", ("mlp-128", "mlp-800-800"), "linear layers with N, M, ... hidden units"),
            NetworkFamily(
                "mlp-N:OPTION=X...",
                ("mlp-1200-1200:dropout=0.5:input-dropout=0.2:max-norm=3.5",),
                "the same, with units dropped while it is trained, and incoming weights of a limited norm",
            ),
            NetworkFamily(
                "resnet-N",
                ("resnet-8", "resnet-20", "resnet-56"),
                "He et al. 2016, section 4.2 (small images); N = 6n + 2",
            ),
            NetworkFamily(
                "torchvision:NAME",
                ("torchvision:resnet18", "torchvision:mobilenet_v3_small"),
                "classifiers of torchvision, for 3 channels",
                count_registered("torchvision"),
            ),
            NetworkFamily(
                "timm:NAME",
                ("timm:resnet18", "timm:vit_tiny_patch16_224"),
                "classifiers of timm, for any channels: pip install 'kd-cli[timm]'",
                count_registered("timm"),
            ),
            NetworkFamily(
                "FILE.py:FACTORY or MODULE:FACTORY",
                ("nets.py:small", "package.nets:small"),
                "your own: a function that returns an nn.Module, given num_classes and in_channels if it takes them",
            ),
        )
    )


def list_datasets() -> DatasetList:
    """Every data set that has a name."""
    return DatasetList(tuple(ListedDataset(name, each.classes, each.shape) for name, each in SOURCES.items()))


@cache
def count_registered(library: str) -> int | None:
    """How many classifiers a library has, read from its source: to import it takes seconds."""
    found = find_spec(library)
    if found is None or found.origin is None:
        return None
    files = (Path(found.origin).parent / "models").glob("*.py")
    return sum(file.read_text("utf-8").count("\n@register_model") for file in files)


def list_layers(architecture: Spec, images: ImagesConfig) -> LayerList:
    """The layers of a fresh network, in the order in which an image leaves them.

    Raises:
        KdError: there is no such network or data set, or they do not fit.
    """
    import torch

    from kd_cli.data import prepared
    from kd_cli.networks import features
    from kd_cli.networks.build import build_network
    from kd_cli.networks.classifier import Classifier

    if images.dataset is not None:
        info = prepared.load(DataConfig(images.dataset, images.data_dir), train=False).info
        shape, classes = info.shape, len(info.classes)
    else:
        default = (1, 28, 28) if architecture.family in ("cnn", "mlp") else (3, 224, 224)
        shape, classes = images.shape or default, images.classes  # type: ignore[assignment]
    network = build_network(architecture, shape, classes)
    classifier = Classifier(network, (0.0,) * shape[0], (1.0,) * shape[0], shape)
    pixels = torch.zeros(1, *shape)

    def name_of(find: Callable[[Classifier, "Tensor"], features.Layer]) -> str | None:
        try:
            return str(find(classifier, pixels))
        except KdError:
            return None

    last_uses = {use.name: use for use in reversed(features.trace(classifier, pixels))}
    return LayerList(
        architecture=str(architecture),
        image_shape=shape,
        classes=classes,
        layers=tuple(
            ListedLayer(use.name, use.kind, use.shape and use.shape[1:]) for use in reversed(last_uses.values())
        ),
        penultimate=name_of(features.find_penultimate),
        maps=name_of(features.find_maps),
    )
