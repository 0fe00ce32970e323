"""Whether two ways to the same numbers differ by more than rounding does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

# By how much more than the yardstick's own rounding the other way may be off. Where
# packing is right it was by less than 2 (docs/benchmarks.md, Packing).
FACTOR = 3.0
# What counts as rounding in any case, since a yardstick may round in the same way.
_FLOOR = 1e-5


@dataclass(frozen=True)
class Agreement:
    """How far numbers are from a reference, beside how far a yardstick is.

    Attributes:
        gap: Root mean square of the difference to the reference, as a share of the
            reference's spread.
        noise: The same for the yardstick, which is right but for its rounding.
    """

    gap: float
    noise: float

    @classmethod
    def of(cls, found: Tensor, yardstick: Tensor, reference: Tensor) -> Self:
        """Compare numbers.

        Args:
            found: What is to be judged, shape ``(n, k)``; columns are alike in scale
                only within themselves.
            yardstick: The same by a way that is trusted, in the same precision.
            reference: The same as exactly as can be had.
        """
        spread = reference.double().std(0).clamp_min(torch.finfo(torch.float64).tiny)

        def distance(values: Tensor) -> float:
            share = (values.double() - reference.double()) / spread
            return (
                float(torch.nan_to_num(share, nan=float("inf")).square().mean()) ** 0.5
            )

        return cls(distance(found), distance(yardstick))

    @property
    def limit(self) -> float:
        """The largest gap that counts as rounding."""
        return max(FACTOR * self.noise, _FLOOR)

    @property
    def holds(self) -> bool:
        """Whether the gap is rounding."""
        return self.gap <= self.limit

    def __str__(self) -> str:
        """Give the numbers."""
        return f"{self.gap:.1e}, rounding {self.noise:.1e}, allowed {self.limit:.1e}"
