"""What a network from a file can do, whatever kind of file that is. Free of torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from kd_cli.config import Precision
from kd_cli.networks.metadata import Metadata

if TYPE_CHECKING:
    from typing_extensions import Self


class LoadedNetwork(Protocol):
    """A network that is ready to use: `checkpoint.Checkpoint`, or `onnx_file.OnnxNetwork`."""

    @property
    def path(self) -> Path:
        """Its file."""

    @property
    def metadata(self) -> Metadata:
        """What the file says of itself."""

    @property
    def precision(self) -> Precision:
        """The numbers that it computes with."""

    @property
    def parameters(self) -> int:
        """How many trainable values it has."""

    @property
    def macs(self) -> int:
        """Its multiply-accumulates for one image."""

    @property
    def shipped(self) -> bool:
        """Whether the file came with the package."""

    def compute_logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, (N, classes), of images, (N, C, H, W), in bounded memory."""

    def with_classes(self, classes: tuple[str, ...]) -> "Self":
        """The same network for data that count the same classes in another order."""
