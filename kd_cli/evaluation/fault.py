"""Whether a run that came to its end learnt something at all."""

from torch import Tensor

from kd_cli.config import TrainingConfig
from kd_cli.evaluation.quality import chance_accuracy

MOST_LOSS_RISE = 2.0
"""How far above its first loss a run may end. Contrastive losses rise by a fifth while their memory fills."""


def find_fault(first_loss: float | None, last_loss: float, accuracy: float, labels: Tensor, lr: float) -> str | None:
    """Why a network that was trained is no result, and what to do; None if it is one.

    Args:
        first_loss: of the run's first step; None if nobody knows.
        last_loss: the mean over the epoch that is kept.
        accuracy: of the network, on images with these labels.
        labels: (N,).
        lr: the learning rate of the run.
    """
    if first_loss is not None and last_loss > MOST_LOSS_RISE * abs(first_loss):
        return f"the training loss rose from {first_loss:.4g} to {last_loss:.4g}: use {smaller_lr(lr)}"
    if accuracy <= chance_accuracy(labels):
        advice = smaller_lr(lr) if lr > TrainingConfig().lr else "a larger --lr or more --epochs"
        return f"the network is no better than chance (accuracy {accuracy:.2%}): use {advice}"
    return None


def smaller_lr(lr: float) -> str:
    """Advice for a run whose learning rate was too large."""
    return f"a smaller --lr, e.g. --lr {min(lr / 10, TrainingConfig().lr):g}"
