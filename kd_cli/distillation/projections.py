"""Losses with layers of their own, which are trained together with the student and thrown away afterwards.

Each is built from `FeatureSizes`, and called with the student's features, (N, ...), the teacher's, (N, ...), and the
images' rows in the training split, (N,).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_cli.config import KdError
from kd_cli.distillation import losses


@dataclass(frozen=True)
class FeatureSizes:
    """What a loss with layers of its own must know.

    Attributes:
        student: the shape of the student's features for one image: (features,), (channels, height, width), ...
        teacher: the shape of the teacher's.
        images: the number of training images.
        seed: of what the loss draws at random while it is trained; its weights come from torch's global stream.
    """

    student: tuple[int, ...]
    teacher: tuple[int, ...]
    images: int
    seed: int


def _widths(sizes: FeatureSizes) -> tuple[int, int]:
    """How many values student and teacher have at each place: (D,), or (T, D) at T places, or (C, H, W) at H * W.

    Raises:
        KdError: they cannot be compared place by place.
    """
    student, teacher = sizes.student, sizes.teacher
    if not len(student) == len(teacher) <= 3 or (len(student) == 2 and student[0] != teacher[0]):
        raise KdError(
            f"the method compares layers place by place, and the student's gives {student} for each image, "
            f"the teacher's {teacher}: use --student-layer and --teacher-layer, or a method such as sp"
        )
    return (student[0], teacher[0]) if len(student) == 3 else (student[-1], teacher[-1])


def _place_by_place(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Features with their values in the last dimension, where a linear layer is a 1x1 convolution of maps.

    Maps of different sizes are brought together as by `losses.match_sizes`.
    """
    if student.ndim != 4:
        return student, teacher
    student, teacher = losses.match_sizes(student, teacher)
    return student.movedim(1, 3), teacher.movedim(1, 3)


class Hint(nn.Module):
    """FitNets' hint: a linear layer brings the student's features to the teacher's width.

    The paper trains up to the hint first and distils afterwards; here, as in Tian et al. 2020, both at once. Of maps it
    is a 1x1 convolution. The paper's regressor brings larger maps of the student to the teacher's size with a kernel as
    large as the difference (section 2.2), and Tian et al.'s code with a stride; here the larger maps are pooled.
    """

    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__()
        self.regressor = nn.Linear(*_widths(sizes))

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        """`losses.hint_loss` of the projected features."""
        student, teacher = _place_by_place(student, teacher)
        return losses.hint_loss(self.regressor(student), teacher)


class Variational(nn.Module):
    """Variational information distillation: a small network predicts the teacher's features, and how surely.

    The regressor has three layers and the variance of each feature starts at 5, as in the authors' code. Of maps it is
    three 1x1 convolutions with a variance for each channel, and larger maps are pooled, as in Tian et al.'s code.
    """

    START, FLOOR = 5.0, 1e-5

    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__()
        width, teacher = _widths(sizes)
        self.regressor = nn.Sequential(
            nn.Linear(width, teacher, bias=False),
            nn.ReLU(),
            nn.Linear(teacher, teacher, bias=False),
            nn.ReLU(),
            nn.Linear(teacher, teacher, bias=False),
        )
        start = math.log(math.expm1(self.START - self.FLOOR))  # softplus(start) + FLOOR = START
        self.spread = nn.Parameter(torch.full((teacher,), start))

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        """`losses.variational_loss` of the predicted features."""
        student, teacher = _place_by_place(student, teacher)
        return losses.variational_loss(self.regressor(student), F.softplus(self.spread) + self.FLOOR, teacher)


class Contrast(nn.Module):
    """Contrastive representation distillation: the student's embedding of an image is told apart by the teacher's.

    Two banks keep the last embedding of every training image, the student's and the teacher's. The embedding of one
    network is compared with the other's bank: with the row of the same image, and with rows drawn at random.

    As in the paper: both embeddings are learnt, linear, 128 wide and of unit length; temperature 0.07; momentum 0.5;
    the critic's constant Z is estimated from the first batch. Not as in the paper: 1,024 negatives in place of 16,384,
    and all images of a batch share them, which makes one matrix product of what would be 540 MB of gathered rows.
    Features with more than one dimension are flattened, as in the authors' code.
    """

    WIDTH, NEGATIVES, TEMPERATURE, MOMENTUM = 128, 1_024, 0.07, 0.5

    student_bank: Tensor
    teacher_bank: Tensor
    log_normaliser: Tensor

    def __init__(self, sizes: FeatureSizes) -> None:
        super().__init__()
        self.embed_student = nn.Linear(math.prod(sizes.student), self.WIDTH)
        self.embed_teacher = nn.Linear(math.prod(sizes.teacher), self.WIDTH)
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
        embeddings = (
            F.normalize(self.embed_student(student.flatten(1))),
            F.normalize(self.embed_teacher(teacher.flatten(1))),
        )
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
