"""Official archives -> one prepared file, through torchvision, in a process of its own.

The process of its own keeps torchvision's import (slower than torch's) and its memory out of the command, and can be
ended when the network swallows packets. It works in a staging folder, so a download or an unpacking that is cut off
leaves nothing that a later run could take for complete.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kd_cli.settings import KdError

PATIENCE = 10.0
"""Seconds without a new byte after which a download is given up."""


class NoNetworkError(KdError):
    """The archives are not there, and could not be downloaded."""


def prepare(torchvision_class: str, archives: Path, staging: Path, mirrors: list[str] | None = None) -> Path:
    """Turn a torchvision data set into one safetensors file below ``staging``, downloading what is missing.

    Args:
        torchvision_class: ``MNIST``, ``FashionMNIST`` or ``KMNIST``.
        archives: the folder where the official archives lie, or come to lie once downloaded.
        staging: an empty folder, private to this call.
        mirrors: addresses to download from in place of torchvision's own.

    Raises:
        NoNetworkError: an archive is missing, and no mirror delivers it.
        KdError: an archive is damaged and no mirror delivers a sound one; or the preparation failed; names the reason.
    """
    request = {"class": torchvision_class, "archives": str(archives), "staging": str(staging), "mirrors": mirrors}
    environment = os.environ | ({} if sys.stderr.isatty() else {"TQDM_DISABLE": "1"})
    child = subprocess.Popen(
        [sys.executable, "-c", "from kd_cli.download import _child; _child()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if sys.stderr.isatty() else subprocess.DEVNULL,
        env=environment,
        text=True,
    )
    assert child.stdin is not None  # for the type checker: both are pipes
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(request))
        child.stdin.close()
        stalled = _watch(child, staging)
        answer = {"missing": "no answer for 10 seconds"} if stalled else json.loads(child.stdout.read() or "{}")
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    if damaged := answer.get("damaged"):
        raise KdError(
            f"{damaged} is damaged (wrong md5) and a sound copy could not be downloaded: "
            "delete it and try again with a network, or use --dataset digits"
        )
    if missing := answer.get("missing"):
        raise NoNetworkError(
            f"{torchvision_class} is not in {archives} and could not be downloaded ({missing}): "
            "try again with a network, or use --dataset digits"
        )
    if "prepared" not in answer:
        raise KdError(f"{torchvision_class} could not be prepared: {answer.get('error', 'its process was ended')}")
    return Path(answer["prepared"])


def _watch(child: "subprocess.Popen[str]", staging: Path) -> bool:
    """Wait for the child; true if its download went `PATIENCE` seconds without a new byte."""
    seen, last_change = -1, time.monotonic()
    while child.poll() is None:
        downloading = (staging / "downloading").exists()
        size = _size(staging)
        if size != seen or not downloading:
            seen, last_change = size, time.monotonic()
        elif time.monotonic() - last_change > PATIENCE:
            return True
        time.sleep(0.05)
    return False


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it may just have been renamed
            total += path.stat().st_size
    return total


def _child() -> None:
    """Read a request from stdin, do it, answer with one JSON object on stdout."""
    request = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # torchvision prints
        try:
            answer = _fetch_and_unpack(request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))


def _fetch_and_unpack(request: dict[str, Any]) -> dict[str, str]:
    import torch
    import torchvision
    from safetensors.torch import save_file
    from torchvision.datasets.utils import check_integrity

    dataset_class = getattr(torchvision.datasets, request["class"])
    archives, staging = Path(request["archives"]), Path(request["staging"])
    raw = staging / request["class"] / "raw"
    raw.mkdir(parents=True)
    if request["mirrors"]:
        dataset_class.mirrors = request["mirrors"]
    sound: list[str] = []
    damaged: list[str] = []
    for name, md5 in dataset_class.resources:
        if (archives / name).exists():
            (sound if check_integrity(archives / name, md5) else damaged).append(name)
    for name in sound:
        shutil.copyfile(archives / name, raw / name)

    socket.setdefaulttimeout(PATIENCE / 3)  # so that a second mirror gets its chance within the patience
    (staging / "downloading").touch()
    try:
        train = dataset_class(staging, train=True, download=True)
    except Exception as error:
        if damaged:
            return {"damaged": str(archives / damaged[0])}
        # torchvision lists every mirror it tried; the last reason says enough.
        return {"missing": " ".join(str(error).split("got:")[-1].split()).strip("<>") or type(error).__name__}
    (staging / "downloading").unlink()
    test = dataset_class(staging, train=False)

    for name, _ in dataset_class.resources:
        if name not in sound:
            with contextlib.suppress(OSError):  # a read-only folder: download again next time
                archives.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(raw / name, staging / name)
                os.replace(staging / name, archives / name)
    tensors = {
        "train.images": train.data,
        "train.labels": train.targets.to(torch.uint8),
        "test.images": test.data,
        "test.labels": test.targets.to(torch.uint8),
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, staging / "tensors.safetensors")
    return {"prepared": str(staging / "tensors.safetensors")}
