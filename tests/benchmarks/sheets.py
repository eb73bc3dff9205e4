"""How many sheets of several digits are told from single ones, read whole, and how well.

    python -m tests.benchmarks.sheets [--sheets 200]

Needs MNIST in $KD_DATA_DIR and the networks that ship, or those in $KD_MODELS_DIR. Takes a minute on one core.
"""

import argparse
import io
import os
from pathlib import Path

import numpy as np
from tqdm import trange

from kd_cli.digits.mnist_format import read_digits
from tests.digits import sheets
from tests.digits.images import accuracy, load_digits, load_networks


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheets", type=int, default=200)
    count = parser.parse_args().sheets
    images, labels = load_digits(10_000)
    networks = load_networks(Path(os.environ.get("KD_MODELS_DIR", "runs/models")))
    several, complete = 0, []
    for seed in trange(count, unit="sheet", disable=None):
        sheet = sheets.draw(images, seed)
        digits = read_digits(io.BytesIO(sheet.file), "sheet", every=True)
        several += len(digits) > 1
        if sheet.is_read([digit.box for digit in digits]):
            complete.append((sheet.digits, [digit.image for digit in digits]))
    print(f"told to show several digits: {several / count:.1%}; every digit found: {len(complete) / count:.1%}")
    drawn = [digit for each, _ in complete for digit in each]
    seen = np.concatenate([each for _, each in complete])
    for role, network in networks.items():
        read, themselves = (accuracy(network, each, labels[drawn]) for each in (seen, images[drawn]))
        print(f"{role}: {read:.2%} of {len(seen):,} digits correct; as MNIST has them, {themselves:.2%}")


if __name__ == "__main__":
    main()
