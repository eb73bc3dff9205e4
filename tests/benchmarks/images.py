"""How well pages are predicted, kind by kind, beside the plain test images and what a user would write instead.

    python -m tests.benchmarks.images [--digits 2000] [--kind KIND ...] [--seen FILE.npz]

Needs MNIST in $KD_DATA_DIR and the networks that ship, or those in $KD_MODELS_DIR. All cores work; with two the whole
takes half an hour, nearly all of it for drawing pages and finding the digits in them. What the networks get to see can
be kept in a file, so that other networks can be measured on the same images in seconds.
"""

import argparse
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits as load_uci_digits
from tqdm import tqdm

from kd_cli.networks.checkpoint import Checkpoint
from tests.digits import pages, scenes
from tests.digits.images import (
    Images,
    Labels,
    accuracy,
    as_a_user_would,
    load_digits,
    load_networks,
    load_semeion,
    semeion_file,
    through_pipeline,
    uci_file,
)

UCI_FILES = [(8, "NEAREST"), (64, "NEAREST"), (64, "BICUBIC"), (300, "NEAREST"), (300, "BICUBIC")]
SEMEION_SIDES = (16, 64, 300)
CHUNK = 25
"""Files that a process takes at a time."""


def main() -> None:
    """Measure and print, a line at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, default=2000, help="how many of the first test digits to draw")
    parser.add_argument("--kind", action="append", choices=[*pages.KINDS, *scenes.KINDS], help="default: all kinds")
    parser.add_argument("--seen", type=Path, help="keep what the networks see in this file, or take it from there")
    arguments = parser.parse_args()
    networks = load_networks(Path(os.environ.get("KD_MODELS_DIR", "runs/models")))
    images, labels = load_digits(arguments.digits)
    if arguments.seen and arguments.seen.exists():
        seen = dict(np.load(arguments.seen))
    else:
        seen = dict(see_all(images, arguments.kind or [*pages.KINDS, *scenes.KINDS]))
    if arguments.seen:
        np.savez_compressed(arguments.seen, **seen)

    print(f"{'':24}{'pipeline':>24}{'grey, resize, invert':>24}")
    print(f"{'':24}" + "".join(f"{role:>12}" for role in 2 * list(networks)))
    _show("plain test images", networks, images[None], labels)
    drawn = [name for name in seen if name in pages.KINDS]
    for name in drawn:
        _show(name, networks, seen[name], labels)
    if drawn:
        together = np.concatenate([seen[name] for name in drawn], axis=1)
        _show("all kinds of page", networks, together, np.tile(labels, len(drawn)))
    for name in [name for name in seen if name in scenes.KINDS]:
        _show(name, networks, seen[name], labels)
    for name in [name for name in seen if name.startswith("UCI")]:
        _show(name, networks, seen[name], load_uci_digits().target)
    for name in [name for name in seen if name.startswith("Semeion")]:
        _show(name, networks, seen[name], load_semeion()[1])


def see_all(images: Images, kinds: list[str]) -> Iterator[tuple[str, Images]]:
    """What the pipeline, and what a user, would make of every kind of page: (2, N, 28, 28) with the kind's name."""
    os.environ["OMP_NUM_THREADS"] = "1"  # as many processes as cores, so no threads beside
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        chunks = {
            kind: [
                pool.submit(see_pages, images[start : start + CHUNK], kind, start)
                for start in range(0, len(images), CHUNK)
            ]
            for kind in kinds
        }
        uci = load_uci_digits().images
        for side, resampling in UCI_FILES:
            see = partial(see_uci, side=side, resampling=resampling)
            chunks[f"UCI {side}x{side} {resampling.lower()}"] = [
                pool.submit(see, uci[start : start + CHUNK]) for start in range(0, len(uci), CHUNK)
            ]
        semeion, _ = load_semeion()
        for side in SEMEION_SIDES if len(semeion) else ():
            chunks[f"Semeion {side}x{side}"] = [
                pool.submit(see_semeion, semeion[start : start + CHUNK], side)
                for start in range(0, len(semeion), CHUNK)
            ]
        for name, parts in tqdm(chunks.items(), unit="kind", disable=None):
            yield name, np.concatenate([part.result() for part in parts], axis=1)


def see_pages(images: Images, kind: str, first: int) -> Images:
    """(2, N, 28, 28): each digit on a page of its own, which its number decides, seen in both ways."""
    draw = scenes.draw if kind in scenes.KINDS else pages.draw
    return _see([draw(image, kind, seed) for seed, image in enumerate(images, start=first)])


def see_uci(digits: NDArray[np.float64], side: int, resampling: str) -> Images:
    """The same for scikit-learn's digits, (N, 8, 8), as files of this size."""
    return _see([uci_file(digit, side, Image.Resampling[resampling]) for digit in digits])


def see_semeion(digits: Images, side: int) -> Images:
    """The same for Semeion's digits, (N, 16, 16)."""
    return _see([semeion_file(digit, side) for digit in digits])


def _see(files: list[bytes]) -> Images:
    return np.stack([[reader(file) for file in files] for reader in (through_pipeline, as_a_user_would)])


def _show(name: str, networks: dict[str, Checkpoint], seen: Images, labels: Labels) -> None:
    shares = [accuracy(network, images, labels) for images in seen for network in networks.values()]
    print(f"{name:24}" + "".join(f"{share:12.2%}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
