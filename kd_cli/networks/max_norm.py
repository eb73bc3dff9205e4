"""Layers whose weights are constrained: after every update they are brought back to where they may be."""

import torch
from torch import nn


class MaxNormLinear(nn.Linear):
    """A linear layer whose units have incoming weights of a norm of at most ``max_norm``.

    Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", section 5.1.

    Args:
        inputs: values that it reads.
        outputs: units.
        max_norm: the largest Euclidean norm of a row of ``weight``.
    """

    def __init__(self, inputs: int, outputs: int, max_norm: float) -> None:
        super().__init__(inputs, outputs)
        self.max_norm = max_norm

    @torch.no_grad()
    def constrain(self) -> None:
        """Shorten the weights of those units that exceed the norm."""
        self.weight.renorm_(p=2, dim=0, maxnorm=self.max_norm)
