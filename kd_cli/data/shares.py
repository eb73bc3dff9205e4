"""Which part of each batch a process computes, where several train one network together."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor


@dataclass(frozen=True)
class Share:
    """The part of one process; of a process that trains alone, everything.

    ``rank`` is the process's number, from 0, among ``size``.
    """

    rank: int = 0
    size: int = 1

    def divides(self, count: int) -> bool:
        """Whether ``count`` rows are divided. Where there are fewer than processes, each process computes all."""
        return count >= self.size > 1

    def of(self, count: int) -> slice:
        """This process's rows among ``count``: as many as the others have, or one more or less."""
        return self._slices(count)[self.rank] if self.divides(count) else slice(0, count)

    def parts(self, count: int) -> list[float]:
        """The part of ``count`` rows that each process has, where they are divided."""
        return [(rows.stop - rows.start) / count for rows in self._slices(count)]

    def gather(self, own: Tensor, count: int) -> Tensor:
        """The rows of all processes in their order, (count, ...), from this process's own ones.

        Gradients flow back to ``own``. Every process computes the same from what it gathers, and the gradients of the
        processes are averaged afterwards: those that flow back are therefore ``size`` times as large.
        """
        return own

    def _slices(self, count: int) -> list[slice]:
        bounds = [count * rank // self.size for rank in range(self.size + 1)]
        return [slice(first, end) for first, end in pairwise(bounds)]


ALONE = Share()
