"""How well pages are read, kind by kind, beside the plain test pictures and what a user would write instead.

    python -m tests.benchmarks.pictures [--digits 2000] [--kind KIND ...]

Needs MNIST in $KD_DATA_DIR and the networks that ship, or those in $KD_MODELS_DIR.
"""

import argparse

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits as load_uci_digits

from kd_cli.checkpoint import Checkpoint
from tests import pages
from tests.pictures import (
    Labels,
    Picture,
    accuracy,
    as_a_user_would,
    load_digits,
    load_networks,
    see,
    through_pipeline,
    uci_file,
)

UCI_FILES = [(8, "NEAREST"), (64, "NEAREST"), (64, "BICUBIC"), (300, "NEAREST"), (300, "BICUBIC")]


def main() -> None:
    """Measure and print, a line at a time: the whole takes an hour or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--digits", type=int, default=2000, help="how many of the first test digits to draw")
    parser.add_argument("--kind", action="append", choices=list(pages.KINDS), help="default: all kinds")
    arguments = parser.parse_args()
    networks = load_networks()
    images, labels = load_digits(arguments.digits)

    print(f"{'':24}{'pipeline':>24}{'grey, resize, invert':>24}")
    print(f"{'':24}" + "".join(f"{role:>12}" for role in 2 * list(networks)))
    _show("plain test pictures", networks, [images], labels)
    every_page: list[list[Picture]] = [[], []]
    for kind in arguments.kind or pages.KINDS:
        files = [pages.draw(image, kind, seed) for seed, image in enumerate(images)]
        seen = [see(files, reader) for reader in (through_pipeline, as_a_user_would)]
        _show(kind, networks, seen, labels)
        for pictures, more in zip(every_page, seen, strict=True):
            pictures.append(more)
    together = [np.concatenate(pictures) for pictures in every_page]
    _show("all kinds", networks, together, np.tile(labels, len(every_page[0])))
    uci = load_uci_digits()
    for side, resampling in UCI_FILES:
        files = [uci_file(image, side, Image.Resampling[resampling]) for image in uci.images]
        seen = [see(files, reader) for reader in (through_pipeline, as_a_user_would)]
        _show(f"UCI {side}x{side} {resampling.lower()}", networks, seen, uci.target)


def _show(name: str, networks: dict[str, Checkpoint], seen: list[Picture], labels: Labels) -> None:
    shares = [accuracy(network, pictures, labels) for pictures in seen for network in networks.values()]
    print(f"{name:24}" + "".join(f"{share:12.2%}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
