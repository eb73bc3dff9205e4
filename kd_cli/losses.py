"""Distillation losses: pure functions of tensors, each with the paper and the equation that it follows."""

from torch import Tensor
from torch.nn import functional as F


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(softmax(teacher / T) || softmax(student / T))``, averaged over the batch.

    Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", section 2. The factor ``T^2`` keeps the
    size of the gradients independent of the temperature (equation 4), so that `alpha` means the same at every T.

    Args:
        student_logits: (N, classes); gradients flow into these.
        teacher_logits: (N, classes).
        temperature: T > 0; higher is softer.

    Returns:
        A scalar, zero where the two distributions are equal.
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
