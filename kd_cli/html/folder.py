"""Exported networks -> a folder with a page that runs them in a browser."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from kd_cli.config import KdError, Precision
from kd_cli.data.dataset import DataInfo
from kd_cli.files import require_output, write_atomically
from kd_cli.html.files import as_script, as_text, read_page
from kd_cli.networks.onnx_file import OnnxNetwork

INDEX, NETWORKS = "index.html", "networks.js"

MARK = b'<meta name="generator" content="kd export">'
"""In the index of every page: what tells it from a user's own."""

CHANNELS = (1, 3)
"""Of the images that a browser's canvas can give."""


class Shown(NamedTuple):
    """A network of a page.

    Attributes:
        network: an ONNX file.
        accuracy: of that file on the test images, from 0 to 1; None where nobody knows.
    """

    network: OnnxNetwork
    accuracy: float | None


def require_folder(folder: Path, inputs: Iterable[Path], force: bool) -> None:
    """Refuse to write a page where files of the user's would be lost.

    Raises:
        KdError: a file cannot be written, is one of ``inputs``, or was not written by this program and ``force`` is
            not given.
    """
    inputs = list(inputs)
    ours = _is_ours(folder)
    for name in [*read_page(), NETWORKS]:
        require_output(folder / name, lambda _: ours, inputs, force)


def require_images(data: DataInfo) -> None:
    """Refuse networks whose images no browser can give.

    Raises:
        KdError: of another number of channels than 1 or 3.
    """
    if data.shape[0] not in CHANNELS:
        raise KdError(f"--html: a browser has images of 1 or 3 channels, not of {data.shape[0]}; leave the option out")


def write_folder(networks: Sequence[Shown], folder: Path) -> int:
    """Write the page. The index comes last, so that one that was cut off does not look whole.

    Args:
        networks: of the same images and classes, the teacher first.
        folder: made if it is not there; files of these names are replaced.

    Returns:
        Bytes of all its files.

    Raises:
        KdError: it cannot be written.
    """
    files = read_page() | {NETWORKS: as_script("PAGE", _describe_page(networks))}
    for name in sorted(files, key=lambda name: name == INDEX):
        write_atomically(folder / name, files[name])
    return sum(map(len, files.values()))


def _is_ours(folder: Path) -> bool:
    try:
        return MARK in (folder / INDEX).read_bytes()
    except OSError:
        return False


def _describe_page(networks: Sequence[Shown]) -> dict[str, Any]:
    """What page/main.js and the others know as ``PAGE``."""
    data = networks[0].network.metadata.data
    return {
        "title": _title(data),
        "limits": f"{'The network runs' if len(networks) == 1 else 'The networks run'} in this browser, and no image "
        f"leaves it. {_limits(data)}",
        "isHandwriting": data.is_handwriting,
        "areDigits": data.is_digits,
        "shape": data.shape,
        "classes": data.classes,
        "networks": [_describe_network(*each) for each in networks],
    }


def _describe_network(network: OnnxNetwork, accuracy: float | None) -> dict[str, Any]:
    metadata, content = network.metadata, network.path.read_bytes()
    confidence = metadata.confidence
    about = [f"trained on {metadata.data.name} with {metadata.method}", f"{network.parameters:,} parameters"]
    if accuracy is not None:
        about.append(f"{accuracy:.2%} of the test images correct")
    if network.precision is not Precision.float32:
        about.append(f"in {network.precision.value}")
    return {
        "role": metadata.role.value,
        "architecture": metadata.architecture,
        "about": f"{', '.join(about)}, {len(content):,} bytes",
        "temperature": confidence.temperature if confidence else 1,
        "typical": asdict(confidence.typical) if confidence and confidence.typical else None,
        "onnx": as_text(content),
    }


def _title(data: DataInfo) -> str:
    if data.is_digits:
        return "Draw a digit"
    return "Draw a character" if data.is_handwriting else "Open an image"


def _limits(data: DataInfo) -> str:
    if data.is_handwriting:
        return (
            "A drawing is brought to the form of MNIST's images as kd predict does it, and so is a clean image of ink "
            "on paper. Photographs of paper on a table, ruled paper, printed boxes, and ink that touches all four "
            "borders are for kd predict."
        )
    _, height, width = data.shape
    return (
        f"An image is scaled until it covers {width} by {height} pixels, and its middle is cut out, as kd predict "
        "does it."
    )
