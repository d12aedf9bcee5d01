"""The first difference of two networks: a jump in one layer, or drift."""

from typing import NamedTuple

from flax_densenet.parity.differences import Difference
from flax_densenet.parity.ladder import Check

# Rounding grows by less than this from one layer to the next; a wrong layer shows many digits.
_JUMP = 30


class Divergence(NamedTuple):
    """The first array of a check that differs.

    Attributes:
      first: That array, in the order of computation.
      diverging: Number of arrays that differ.
      compared: Number of arrays.
      before: Largest relative difference of the arrays computed before it; None if it is the first.
    """

    first: Difference
    diverging: int
    compared: int
    before: float | None

    @property
    def is_jump(self) -> bool:
        """Whether the difference arises in this array, instead of growing from one to the next."""
        grown = self.before is not None and self.first.relative <= _JUMP * self.before
        return not grown

    def __str__(self) -> str:
        """Returns a sentence for people."""
        if self.before is None:
            kind = "it is the first to be computed"
        elif self.is_jump:
            kind = f"a jump: before it no difference is above {self.before:.0e}"
        else:
            kind = f"drift: differences had grown to {self.before:.0e} before it"
        return (
            f"{self.first.name} {self.first.shape} is the first of {self.diverging} (of "
            f"{self.compared}) that differ: relative {self.first.relative:.1e}, allowed "
            f"{self.first.allowed:.0e}; {kind}"
        )


def find_divergence(check: Check) -> Divergence | None:
    """Returns the first array in which a check's networks differ; None if they do not."""
    rows = check.in_order
    for number, row in enumerate(rows):
        if row.differs:
            diverging = sum(other.differs for other in rows)
            before = max((other.relative for other in rows[:number]), default=None)
            return Divergence(row, diverging, len(rows), before)
    return None
