"""Weights to start from, in place of random ones: fine-tuning."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from kd_cli.config import KdError
from kd_cli.networks.checkpoint import compute_digest, is_plain, read_own_weights
from kd_cli.networks.spec import Spec
from kd_cli.networks.state_dicts import convert, describe_misfit, layout_of, read_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitialWeights:
    """The weights of a file, for networks of its architecture.

    Attributes:
        path: the file.
        classes: what they tell apart, in order; None where the file does not say.
        digest: identifies the content.
        weights: by name.
    """

    path: Path
    classes: tuple[str, ...] | None
    digest: str
    weights: dict[str, Tensor] = field(repr=False, compare=False)

    def find_head(self, network: nn.Module, spec: Spec, classes: tuple[str, ...]) -> list[str]:
        """The weights of ``network`` that stay as they are, since the file's tell other classes apart.

        Raises:
            KdError: the others do not fit; names a few of them.
        """
        expected = layout_of(network)
        found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in self.weights.items()}
        head = [
            name
            for name, (shape, _) in expected.items()
            if name in found
            and shape != found[name][0]
            and shape[:1] == (len(classes),)
            and shape[1:] == found[name][0][1:]
        ]
        if self.classes is not None and self.classes != classes and not head:
            head = [name for name in expected if name.rpartition(".")[0] == _last_layer(network, len(classes))]
        needed, offered = ({name: each[name] for name in each if name not in head} for each in (expected, found))
        if misfit := describe_misfit(needed, offered):
            raise KdError(f"{self.path} does not fit {spec}: {misfit}; use the architecture that it was trained with")
        return head

    def load_into(self, network: nn.Module, spec: Spec, classes: tuple[str, ...]) -> None:
        """Replace a fresh network's weights, but for those of its last layer where that tells other classes apart.

        Raises:
            KdError: as `find_head`.
        """
        if head := self.find_head(network, spec, classes):
            log.warning("%s tells other classes apart: %s start afresh", self.path, ", ".join(head))
        own = network.state_dict()
        network.load_state_dict(convert(self.weights | {name: own[name] for name in head}, layout_of(network)))


def read_initial(path: Path) -> InitialWeights:
    """The weights of a plain state dict or a checkpoint of this program, whose network is not built.

    Raises:
        KdError: the file is missing or damaged.
    """
    if path.is_file() and is_plain(path):
        weights = read_weights(path)
        return InitialWeights(path, None, compute_digest({}, weights), weights)
    metadata, weights, digest = read_own_weights(path)
    return InitialWeights(path, metadata.data.classes, digest, weights)


def _last_layer(network: nn.Module, classes: int) -> str | None:
    named = reversed(list(network.named_modules()))
    sizes = {name: len(module.weight) for name, module in named if isinstance(module, nn.Linear | nn.Conv2d)}
    return next((name for name, size in sizes.items() if size == classes), None)
