"""Steps that compute with fewer than 32 bits: where that is safe, by torch's autocast. Weights and losses keep 32."""

import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from kd_cli.config import KdError, TrainingPrecision

log = logging.getLogger(__name__)

DTYPES = {TrainingPrecision.bf16: torch.bfloat16, TrainingPrecision.fp16: torch.float16}

BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Of x86 and of ARM. Without any of them a CPU emulates bf16."""


class MixedPrecision(nn.Module):
    """A classifier whose layers compute with fewer bits where that is safe; its features and logits have 32 again.

    Micikevicius et al. 2018, "Mixed Precision Training". It shares the classifier's weights and can be read by
    `networks.features.Layer`.

    Args:
        classifier: pixels (N, C, H, W) -> logits (N, classes).
        dtype: of 16 bits.
    """

    def __init__(self, classifier: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.classifier, self.dtype = classifier, dtype

    @property
    def network(self) -> nn.Module:
        """The classifier's network, whose layers are read by name."""
        network: nn.Module = self.classifier.network  # type: ignore[assignment]
        return network

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels from 0 to 1, (N, C, H, W) -> logits, (N, classes)."""
        with torch.autocast(pixels.device.type, self.dtype):
            logits: Tensor = self.classifier(pixels)
        return logits.float()

    def forward_features(self, pixels: Tensor) -> dict[str, Tensor]:
        """The features of a reference network by the names of its layers; the last ones are the logits."""
        with torch.autocast(pixels.device.type, self.dtype):
            features: dict[str, Tensor] = self.classifier.forward_features(pixels)  # type: ignore[operator]
        return {name: feature.float() for name, feature in features.items()}


def with_precision(classifier: Any, precision: TrainingPrecision) -> Any:
    """The classifier, computed with so many bits."""
    return classifier if precision is TrainingPrecision.fp32 else MixedPrecision(classifier, DTYPES[precision])


def make_scaler(precision: TrainingPrecision, device: str) -> GradScaler | None:
    """What keeps small gradients from vanishing: only fp16 needs it, bf16 reaches as far as 32 bits do."""
    return GradScaler(device) if precision is TrainingPrecision.fp16 else None


def require_usable(precision: TrainingPrecision, device: torch.device) -> None:
    """Refuse what the device would be far slower with, and say where 16 bits are slower than 32.

    Raises:
        KdError: fp16 on a CPU.
    """
    if precision is TrainingPrecision.fp16 and device.type == "cpu":
        raise KdError("--precision fp16 is for GPUs: use bf16, or leave it out")
    if precision is TrainingPrecision.bf16 and not has_bf16(device):
        _warn_once(f"this {device.type} has no instructions for bf16: without --precision it is faster")


@cache
def _warn_once(message: str) -> None:
    """Jobs are checked anew for each command and worker."""
    log.warning(message)


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes with bf16 itself, as far as torch knows."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    if hasattr(torch.cpu, "get_capabilities"):  # newer than our oldest torch
        return any(torch.cpu.get_capabilities().get(name) for name in BF16_INSTRUCTIONS)
    return bool(torch.cpu._is_avx512_bf16_supported())
