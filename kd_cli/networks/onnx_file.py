"""Exported networks: ONNX files that ``kd export`` wrote, run by ONNX Runtime. Free of torch."""

import contextlib
import copy
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kd_cli.config import FORWARD_CHUNK, ConfigError, KdError, Precision
from kd_cli.files import require_regular
from kd_cli.networks.metadata import Metadata, parse_metadata

if TYPE_CHECKING:
    import onnxruntime

INPUT, OUTPUT = "pixels", "logits"
"""What the graph calls what it takes and what it gives."""

METADATA_KEY = "kd"
"""The entry of the file's metadata that holds its description, as JSON."""

PROVIDER, RUNTIME = "CPUExecutionProvider", ("cpu", "cpu (ONNX Runtime)")
"""Where graphs run: as ONNX Runtime calls it, and as results do, for programs and for people."""

SILENT = 4
"""The level at which ONNX Runtime writes nothing to stderr but fatal errors. It raises them, too."""


@dataclass(frozen=True)
class Description:
    """What an exported file says of itself.

    Attributes:
        metadata: of the checkpoint that it was exported from; its normalisation is part of the graph.
        precision: of weights and arithmetic.
        parameters: how many trainable values the network has.
        macs: its multiply-accumulates for one image.
    """

    metadata: Metadata
    precision: Precision
    parameters: int
    macs: int

    def to_json(self) -> str:
        """The description as any program can read it."""
        about = {"precision": self.precision.value, "parameters": self.parameters, "macs": self.macs}
        text = json.dumps(asdict(self.metadata) | about)
        # Python writes NaN, as of an accuracy that nobody knows, which is no JSON.
        return json.dumps(json.loads(text, parse_constant=lambda name: None))


def parse_description(text: str) -> Description:
    """A description from a file that anybody may have written.

    Raises:
        LookupError, TypeError, ValueError, ConfigError: something is missing, of the wrong kind, or out of bounds.
    """
    raw = json.loads(text)
    return Description(parse_metadata(raw), Precision(raw["precision"]), int(raw["parameters"]), int(raw["macs"]))


class OnnxNetwork:
    """An exported network, ready to use.

    Args:
        path: an ONNX file that ``kd export`` wrote.
        threads: how many threads compute; None is one for each core.

    Raises:
        KdError: the file is missing, damaged, or not from ``kd export``; or ONNX Runtime, of the extra "export", is
            missing or too old for its operators.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        self._order: list[int] | None = None
        session = self._start(threads)
        self.description = _read_description(path, session)
        _require_interface(path, session, self.description.metadata)

    def _start(self, threads: int | None) -> "onnxruntime.InferenceSession":
        session = _open_session(self.path, threads)
        # `InferenceSession.run` calls this after a look at what `_require_interface` has found in order. That look, and
        # options made anew for each run, would take a fifth of a small network's time.
        self._run = getattr(session, "_sess", session).run
        self._options = _prepare_run()
        return session

    @property
    def metadata(self) -> Metadata:
        """What the checkpoint said that it was exported from."""
        return self.description.metadata

    @property
    def precision(self) -> Precision:
        """The numbers that it computes with."""
        return self.description.precision

    @property
    def parameters(self) -> int:
        """How many trainable values the network has."""
        return self.description.parameters

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return self.description.macs

    @property
    def shipped(self) -> bool:
        """Whether the file came with the package; none does."""
        return False

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pixels from 0 to 1, (N, C, H, W) -> logits, (N, classes)."""
        logits: NDArray[np.float32]
        (logits,) = self._run([OUTPUT], {INPUT: pixels}, self._options)
        return logits if self._order is None else logits[:, self._order]

    def compute_logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, (N, classes), of uint8 images, (N, C, H, W), in bounded memory.

        Raises:
            KdError: the graph fails, or gives something else.
        """
        chunks = (images[start : start + FORWARD_CHUNK] for start in range(0, len(images), FORWARD_CHUNK))
        try:
            logits = np.concatenate([self(to_pixels(chunk)) for chunk in chunks])
        except Exception as error:  # ONNX Runtime's have no base of their own
            raise KdError(f"{self.path} cannot be run: it is damaged, or memory is short; export it again") from error
        if logits.shape != (len(images), len(self.metadata.data.classes)):
            raise KdError(f"{self.path} gives {logits.shape} for {len(images)} images: export it again with kd export")
        return logits

    def with_threads(self, threads: int) -> "OnnxNetwork":
        """The same network, computed by so many threads."""
        other = copy.copy(self)
        other._start(threads)
        return other

    def with_classes(self, classes: tuple[str, ...]) -> "OnnxNetwork":
        """The same network for data that count the same classes in another order."""
        other = copy.copy(self)
        order = map(self.metadata.data.classes.index, classes)
        other._order = [i if self._order is None else self._order[i] for i in order]
        other.description = replace(self.description, metadata=self.metadata.with_classes(classes))
        return other


def to_pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images -> what networks take: floats from 0 to 1, to the bit as `data.dataset.to_pixels` makes them."""
    pixels = images.astype(np.float32)
    pixels *= np.float32(1 / 255)
    return pixels


def is_our_onnx(path: Path) -> bool:
    """Whether ``kd export`` wrote an ONNX file."""
    try:
        OnnxNetwork(path)
    except KdError:
        return False
    return True


def is_onnx(path: Path) -> bool:
    """Whether a file is ONNX, by its name or as far as its beginning tells; of one that cannot be read, by its name."""
    if path.suffix.lower() == ".onnx":
        return True
    beginning = b""
    if os.path.isfile(
        path
    ):  # a pipe or a device might never end; and Path.is_file() raises for a name that is too long
        with contextlib.suppress(OSError), open(path, "rb") as file:
            beginning = file.read(9)
    # A field with the number of the format. A safetensors file may begin so, too, but has a brace at its ninth byte.
    return len(beginning) == 9 and beginning[0] == 8 and beginning[1] < 32 and beginning[8:] != b"{"


def _open_session(path: Path, threads: int | None) -> "onnxruntime.InferenceSession":
    require_regular(path)
    if not path.exists():
        raise KdError(f"no file {path}: check the path, or make one with kd export")
    try:
        import onnxruntime
    except ImportError as error:
        raise KdError(f"{path} needs ONNX Runtime: pip install 'kd-cli[export]'") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    options.intra_op_num_threads = threads or 0
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[PROVIDER])
    except Exception as error:  # its errors have no base of their own
        raise KdError(f"cannot open {path}: {_explain(error)}") from error


def _prepare_run() -> "onnxruntime.RunOptions":
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = SILENT
    return options


def _explain(error: Exception) -> str:
    if type(error).__name__ == "NotImplemented":
        return "this ONNX Runtime lacks one of its operators; pip install --upgrade onnxruntime, or export it again"
    return "it is damaged, or no ONNX file; use one that kd export wrote"


def _read_description(path: Path, session: "onnxruntime.InferenceSession") -> Description:
    try:
        return parse_description(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError, ConfigError) as error:
        raise KdError(
            f"{path} does not say which classes it tells apart, as files from kd export do: export a checkpoint with it"
        ) from error


def _require_interface(path: Path, session: "onnxruntime.InferenceSession", metadata: Metadata) -> None:
    """Refuse a graph that takes or gives anything but what its description says."""
    data = metadata.data
    found = [_describe(each) for each in (*session.get_inputs(), *session.get_outputs())]
    expected = [(INPUT, "tensor(float)", data.shape), (OUTPUT, "tensor(float)", (len(data.classes),))]
    if found != expected:
        raise KdError(
            f"{path} takes {_join(session.get_inputs())} and gives {_join(session.get_outputs())}, not {INPUT} "
            f"{list(data.shape)} and {OUTPUT} [{len(data.classes)}] for any number of images: "
            "export a checkpoint with kd export"
        )


def _describe(value: Any) -> tuple[str, str, tuple[int, ...]] | None:
    """Name, type, and shape of one image's part; None where the number of images is fixed."""
    if not value.shape or isinstance(value.shape[0], int):
        return None
    return value.name, value.type, tuple(value.shape[1:])


def _join(values: Any) -> str:
    return ", ".join(f"{value.name} {value.shape}" for value in values) or "nothing"
