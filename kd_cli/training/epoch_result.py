"""What an epoch of training came to. Free of torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochResult:
    """An epoch: its mean training loss, seconds of training, and accuracy and errors after it.

    They are of the validation images where some are set aside, else of the test set.
    """

    epoch: int
    loss: float
    accuracy: float
    error_count: int
    seconds: float
