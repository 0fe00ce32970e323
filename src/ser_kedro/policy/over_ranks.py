"""Sums and moments over all processes of a launch."""

from __future__ import annotations

from dataclasses import dataclass

from accelerate import Accelerator
from torch import Tensor, tensor

_EPSILON = 1e-8


@dataclass(frozen=True)
class OverRanks:
    """What is asked of the numbers of all processes together.

    Attributes:
        accelerator: Knows the others. Each must ask the same in the same order.
    """

    accelerator: Accelerator

    def sum(self, value: Tensor) -> float:
        """Return the sum of a number of each process."""
        return float(self.accelerator.reduce(value, "sum"))

    def mean(self, values: Tensor) -> float:
        """Return the mean of all numbers of all processes."""
        count = tensor(float(values.numel()), device=values.device)
        return self.sum(values.sum()) / self.sum(count)

    def moments(self, values: Tensor, mask: Tensor) -> tuple[float, float]:
        """Return mean and variance of those under the mask."""
        count = self.sum(mask.sum().float())
        mean = self.sum((values * mask).sum()) / count
        return mean, self.sum(((values - mean) ** 2 * mask).sum()) / count

    def explained_variance(
        self, returns: Tensor, values: Tensor, mask: Tensor
    ) -> float | None:
        """Return which share of the returns' variance values explain, 1 at most.

        ``None`` where the returns are constant.
        """
        whole = self.moments(returns, mask)[1]
        rest = self.moments(returns - values, mask)[1]
        return 1 - rest / whole if whole > _EPSILON else None
