"""Losses with layers of their own, which are trained together with the student and thrown away afterwards.

Each is built from `FeatureSizes`, and called with the student's features (N, student), the teacher's (N, teacher) and
the images' rows in the training split (N,).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.distillation import losses


@dataclass(frozen=True)
class FeatureSizes:
    """What a loss with layers of its own must know.

    Attributes:
        student: the number of the student's features.
        teacher: the number of the teacher's.
        images: the number of training images.
        seed: of what the loss draws at random while it is trained; its weights come from torch's global stream.
    """

    student: int
    teacher: int
    images: int
    seed: int


class Hint(nn.Module):
    """FitNets' hint: a linear layer brings the student's features to the teacher's width.

    The paper trains up to the hint first and distils afterwards; here, as in Tian et al. 2020, both at once.
    """

    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__()
        self.regressor = nn.Linear(sizes.student, sizes.teacher)

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        """`losses.hint_loss` of the projected features."""
        return losses.hint_loss(self.regressor(student), teacher)


class Variational(nn.Module):
    """Variational information distillation: a small network predicts the teacher's features, and how surely.

    The regressor has three layers and the variance of each feature starts at 5, as in the authors' code.
    """

    START, FLOOR = 5.0, 1e-5

    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__()
        self.regressor = nn.Sequential(
            nn.Linear(sizes.student, sizes.teacher, bias=False),
            nn.ReLU(),
            nn.Linear(sizes.teacher, sizes.teacher, bias=False),
            nn.ReLU(),
            nn.Linear(sizes.teacher, sizes.teacher, bias=False),
        )
        start = math.log(math.expm1(self.START - self.FLOOR))  # softplus(start) + FLOOR = START
        self.spread = nn.Parameter(torch.full((sizes.teacher,), start))

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        """`losses.variational_loss` of the predicted features."""
        return losses.variational_loss(self.regressor(student), F.softplus(self.spread) + self.FLOOR, teacher)


class Contrast(nn.Module):
    """Contrastive representation distillation: the student's embedding of an image is told apart by the teacher's.

    Two banks keep the last embedding of every training image, the student's and the teacher's. The embedding of one
    network is compared with the other's bank: with the row of the same image, and with rows drawn at random.

    As in the paper: both embeddings are learnt, linear, 128 wide and of unit length; temperature 0.07; momentum 0.5;
    the critic's constant Z is estimated from the first batch. Not as in the paper: 1,024 negatives in place of 16,384,
    and all images of a batch share them, which makes one matrix product of what would be 540 MB of gathered rows.
    """

    WIDTH, NEGATIVES, TEMPERATURE, MOMENTUM = 128, 1_024, 0.07, 0.5

    student_bank: Tensor
    teacher_bank: Tensor
    log_normaliser: Tensor

    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__()
        self.embed_student = nn.Linear(sizes.student, self.WIDTH)
        self.embed_teacher = nn.Linear(sizes.teacher, self.WIDTH)
        for name in ("student_bank", "teacher_bank"):
            self.register_buffer(name, F.normalize(torch.randn(sizes.images, self.WIDTH)))
        self.register_buffer("log_normaliser", torch.zeros(2))
        self.started = False
        self.random = torch.Generator().manual_seed(sizes.seed)

    def get_extra_state(self) -> dict[str, Any]:
        """What a resumed run needs beside parameters and buffers."""
        return {"started": self.started, "random": self.random.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from where `get_extra_state` was taken."""
        self.started = state["started"]
        self.random.set_state(state["random"])

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        """The sum of `losses.contrastive_loss` with the teacher's bank and with the student's."""
        images = len(self.student_bank)
        chosen = torch.randint(images, (self.NEGATIVES,), generator=self.random).to(index.device)
        embeddings = F.normalize(self.embed_student(student)), F.normalize(self.embed_teacher(teacher))
        banks = self.teacher_bank, self.student_bank
        scores = []
        for embedding, bank in zip(embeddings, banks, strict=True):
            positive = (embedding * bank[index]).sum(dim=1, keepdim=True)
            scores.append(torch.cat([positive, embedding @ bank[chosen].T], dim=1) / self.TEMPERATURE)
        if not self.started:
            means = [each.detach().logsumexp(dim=(0, 1)) - math.log(each.numel()) for each in scores]
            self.log_normaliser.copy_(torch.stack(means) + math.log(images))
            self.started = True
        critics = [score - normaliser for score, normaliser in zip(scores, self.log_normaliser, strict=True)]
        self._remember(index, *embeddings)
        noise = self.NEGATIVES / images
        parts = [losses.contrastive_loss(critic[:, 0], critic[:, 1:], noise) for critic in critics]
        return torch.stack(parts).sum()

    @torch.no_grad()
    def _remember(self, index: Tensor, student: Tensor, teacher: Tensor) -> None:
        for bank, embedding in ((self.student_bank, student), (self.teacher_bank, teacher)):
            mixed = self.MOMENTUM * bank[index] + (1 - self.MOMENTUM) * embedding
            bank[index] = F.normalize(mixed)
