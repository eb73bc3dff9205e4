"""Whose code may be run: never because a file names it, only where the user does."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kd_cli.config import KdError
from kd_cli.networks.spec import Spec

VARIABLE = "KD_TRUST"
"""The environment variable that trusts files and modules everywhere, separated as paths are."""


def require_trusted(path: Path, spec: Spec, trust: Sequence[str]) -> Spec:
    """Refuse to build a user's network of a checkpoint unless the user trusts its file or module.

    Args:
        path: the checkpoint.
        spec: what it says of its network.
        trust: files and modules that the user trusts, beside those in ``KD_TRUST``.

    Returns:
        The architecture to build: a file that has moved is taken from where the user says that it lies.

    Raises:
        KdError: says what to trust.
    """
    if not spec.is_own:
        return spec
    trusted = [*trust, *filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))]
    name = Path(spec.source).name
    if any(_same(each, spec.source) for each in trusted):
        return spec
    if moved := [each for each in trusted if each.endswith(".py") and Path(each).name == name]:
        return replace(spec, name=f"{moved[0]}:{spec.factory}")
    raise KdError(
        f"{path} holds a network that {spec.source} makes, and using it would run that code: "
        f"if you trust it, add --trust {spec.source}"
    )


def _same(trusted: str, source: str) -> bool:
    if trusted == source:
        return True
    return trusted.endswith(".py") and source.endswith(".py") and os.path.realpath(trusted) == os.path.realpath(source)
