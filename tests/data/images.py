"""Small folders of images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def noise(seed: int, height: int = 24, width: int = 40, channels: int = 3) -> NDArray[np.uint8]:
    """A random image, (height, width, 3), or (height, width) for one channel."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.uint8] | Image.Image, **options: object) -> Path:
    """Write an image, and its folder where that is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def make_folder(
    root: Path, classes: int = 3, each: int = 10, height: int = 24, width: int = 40, channels: int = 3
) -> Path:
    """``CLASS/N.png``, all different."""
    for number in range(classes * each):
        pixels = noise(number, height, width, channels)
        save(root / f"class {number % classes}" / f"{number // classes}.png", pixels)
    return root
