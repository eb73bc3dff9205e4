"""A picture of a handwritten digit -> a 28x28 picture as MNIST's makers would have made it -> probabilities.

LeCun et al. describe how: the ink, white on black, is scaled with its proportions into 20x20 pixels, and the result is
placed in 28x28 so that its centre of mass is in the middle.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from kd_cli.checkpoint import Checkpoint
from kd_cli.data import IMAGE_SIZE
from kd_cli.settings import KdError

Pixels = NDArray[np.float32]
Picture = NDArray[np.uint8]

INK_BOX = 20
"""Side, in pixels, of the square into which the ink is scaled."""

INK_LEVEL = 0.25
"""Brightness, of the range between paper and ink, from which a pixel counts as ink when the picture is cropped."""


@dataclass(frozen=True)
class Reading:
    """What a network makes of a picture: the most probable class, its probability, and all probabilities."""

    class_index: int
    confidence: float
    probabilities: list[float]


def read_picture(path: Path) -> Picture:
    """Read an image file as a 28x28 picture like those that the networks learnt from: white ink on black.

    Raises:
        KdError: there is no such file, it is no picture, it is damaged, or it is blank.
    """
    try:
        with Image.open(path) as image:
            grey = ImageOps.exif_transpose(_over_white(image)).convert("L")
    except FileNotFoundError:
        raise KdError(f"no picture {path}: check the path") from None
    except OSError as error:  # UnidentifiedImageError is one
        reason = error.strerror or "it is damaged or no picture"
        raise KdError(f"cannot read {path}: {reason}; use a PNG, JPEG, WebP, BMP, GIF or TIFF file") from None
    except Image.DecompressionBombError:
        raise KdError(f"cannot read {path}: it has too many pixels; make it smaller") from None
    ink = _ink(np.asarray(grey, dtype=np.float32) / np.float32(255))
    if ink is None:
        raise KdError(f"{path} is blank: use a picture with a digit in it")
    return like_mnist(ink)


def like_mnist(ink: Pixels) -> Picture:
    """Crop to the ink, scale it into 20x20 with its proportions, and centre it by mass in 28x28.

    Args:
        ink: any height and width; 0 is paper, 1 is ink; not blank.
    """
    rows, columns = np.nonzero(ink > INK_LEVEL)
    cropped = Image.fromarray(ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
    scale = INK_BOX / max(cropped.size)
    width, height = (max(1, round(side * scale)) for side in cropped.size)
    scaled = np.asarray(
        cropped.resize((width, height), Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    )
    scaled = scaled.clip(0, 1)
    picture: Pixels = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    top = _corner(scaled.sum(axis=1), IMAGE_SIZE)
    left = _corner(scaled.sum(axis=0), IMAGE_SIZE)
    picture[top : top + height, left : left + width] = scaled
    rounded: Picture = (picture * 255).round().astype(np.uint8)
    return rounded


def classify(checkpoint: Checkpoint, pictures: Picture) -> list[Reading]:
    """Read pictures, (N, 28, 28), with one network."""
    device = next(checkpoint.network.parameters()).device
    images = torch.from_numpy(pictures).to(device)
    with torch.inference_mode():
        logits = checkpoint.network(checkpoint.metadata.normalisation(images))
    probabilities = logits.double().softmax(dim=1).cpu()
    confidence, classes = probabilities.max(dim=1)
    rows = zip(classes.tolist(), confidence.tolist(), probabilities.tolist(), strict=True)
    return [Reading(*row) for row in rows]


def _over_white(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    paper = Image.new("RGBA", image.size, "white")
    paper.alpha_composite(image.convert("RGBA"))
    paper.info["exif"] = image.info.get("exif", b"")
    return paper


def _ink(grey: Pixels) -> Pixels | None:
    """Brightness -> ink, 0 to 1; whatever most of the border shows is paper. None where there is no contrast."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ink = np.abs(grey - np.median(border))
    return ink / ink.max() if ink.max() > 0.1 else None


def _corner(mass: Pixels, size: int) -> int:
    """Where to start along one axis, so that the centre of mass comes to the middle and nothing is cut off."""
    centre = float((np.arange(len(mass)) + 0.5) @ mass / mass.sum())
    return int(np.clip(round((size + 1) / 2 - centre), 0, size - len(mass)))
