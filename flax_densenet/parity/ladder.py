"""The ladder of comparisons, which tests and command climb rung by rung.

Axes: B batch, C channels, H height, W width.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from flax_densenet.allocator import give_back
from flax_densenet.parity.differences import Difference, differences, with_rounding
from flax_densenet.parity.half import Batch, Half, Observation, Trained
from flax_densenet.parity.tolerances import Tolerance

Phase = Literal["evaluation", "training", "steps"]


class Rung(NamedTuple):
    """One thing that is compared.

    Attributes:
      phase: Which pass shows it, or some steps of training.
      quantity: Field of `Observation` or `Trained`.
      title: Heading of a column.
      tolerance: Field of `Tolerance`.
      is_backward: Whether it is computed from the classifier to the stem, so that the first layer
        that diverges is the last one of the network.
    """

    phase: Phase
    quantity: str
    title: str
    tolerance: str
    is_backward: bool = False


RUNGS = (
    Rung("evaluation", "activations", "output, evaluation", "forward"),
    Rung("evaluation", "loss", "loss, evaluation", "forward"),
    Rung("evaluation", "gradients", "gradient, evaluation", "gradient", is_backward=True),
    Rung("training", "activations", "output, training", "forward"),
    Rung("training", "loss", "loss, training", "forward"),
    Rung("training", "gradients", "gradient, training", "gradient", is_backward=True),
    Rung("training", "statistics", "running statistics", "forward"),
    Rung("steps", "losses", "losses of all steps", "training"),
    Rung("steps", "weights", "weights after all steps", "training"),
    # A sum of gradients, so measured as they are.
    Rung("steps", "momentum", "momentum after all steps", "gradient", is_backward=True),
    Rung("steps", "average", "average after all steps", "training"),
)


class Check(NamedTuple):
    """The result of one rung.

    Attributes:
      rung: What was compared.
      rows: One for each array, in forward order.
    """

    rung: Rung
    rows: list[Difference]

    @property
    def in_order(self) -> list[Difference]:
        """The rows in the order in which their arrays are computed."""
        return self.rows[::-1] if self.rung.is_backward else self.rows

    @property
    def agrees(self) -> bool:
        """Whether all arrays agree."""
        return all(row.agrees for row in self.rows)

    @property
    def differs(self) -> bool:
        """Whether an array differs."""
        return any(row.differs for row in self.rows)

    @property
    def undecided(self) -> list[Difference]:
        """The rows in which a fault could hide."""
        return [row for row in self.rows if row.is_undecided]


def climb(
    ours: Half,
    theirs: Half,
    tolerance: Tolerance,
    batch: Batch,
    steps: Sequence[Batch] = (),
    nudged: Sequence[tuple[Half, Batch]] = (),
) -> Iterator[Check]:
    """Compares two halves, one rung for each item that is taken.

    Args:
      ours: The Flax network.
      theirs: The PyTorch network with the same weights. Outputs that only one of the two shows are
        left out; other people's blocks, for one, may return something else.
      tolerance: Differences allowed, of the type that both compute in.
      batch: Normalized images [B, C, H, W] and labels [B].
      steps: One batch of uint8 images for each step of training; none leaves training out.
      nudged: The PyTorch network and the batch with the last bits of all numbers changed, some
        times. They measure what rounding can do; without them only the tolerance is allowed. Only
        the first one is trained.

    Returns:
      One check for each of `RUNGS`, in their order.
    """
    for phase in get_args(Phase):
        if phase == "steps" and not steps:
            return
        see = functools.partial(_see, phase, steps)
        changed = nudged[:1] if phase == "steps" else nudged
        yield from _climb_phase(phase, see, (ours, batch), (theirs, batch), changed, tolerance)


_Seen = Observation | Trained
_Pair = tuple[Half, Batch]


def _see(phase: Phase, steps: Sequence[Batch], half: Half, batch: Batch) -> _Seen:
    """Returns what a half shows, after what others have left behind is given back."""
    give_back()
    if phase == "steps":
        return half.train(steps)
    return half.observe(batch, train=phase == "training")


def _climb_phase(
    phase: Phase,
    see: Callable[[Half, Batch], _Seen],
    ours: _Pair,
    theirs: _Pair,
    nudged: Sequence[_Pair],
    tolerance: Tolerance,
) -> list[Check]:
    """Compares what a phase shows.

    The outputs of a deep network fill the memory. So what a half has shown is let go before the
    next one computes, but for PyTorch's, and nothing of a phase is kept for the next.
    """
    right = see(*theirs)
    checks = _compare(phase, see(*ours), right, tolerance)
    for pair in nudged:
        checks = _add_rounding(checks, right, see(*pair), tolerance)
    return [_with_common_rounding(check) for check in checks] if nudged else checks


def _compare(phase: Phase, shown: _Seen, right: _Seen, tolerance: Tolerance) -> list[Check]:
    checks = []
    for rung in RUNGS:
        if rung.phase != phase:
            continue
        ours, theirs = (getattr(seen, rung.quantity) for seen in (shown, right))
        if rung.quantity == "activations":
            ours, theirs = (
                {name: array for name, array in one.items() if name in other}
                for one, other in ((ours, theirs), (theirs, ours))
            )
        allowed = getattr(tolerance, rung.tolerance)
        checks.append(Check(rung, differences(ours, theirs, allowed, _floor(rung, tolerance))))
    return checks


def _add_rounding(
    checks: Sequence[Check], right: _Seen, nudged: _Seen, tolerance: Tolerance
) -> list[Check]:
    found = []
    for check in checks:
        theirs, moved = (getattr(seen, check.rung.quantity) for seen in (right, nudged))
        floor = _floor(check.rung, tolerance)
        found.append(check._replace(rows=with_rounding(check.rows, theirs, moved, floor)))
    return found


def _floor(rung: Rung, tolerance: Tolerance) -> float:
    return tolerance.gradient_floor if rung.tolerance == "gradient" else 0


def _with_common_rounding(check: Check) -> Check:
    """Gives each array the largest rounding that can have reached it.

    An output is reached by the rounding of all outputs before it. In gradients rounding also comes
    from single activations next to 0 that change their sign. Which ones they are, and which
    gradients they move, differs from run to run; so the largest rounding of all counts for each.
    """
    roundings = np.maximum.accumulate([row.rounding or 0 for row in check.rows])  # NaN is largest
    if check.rung.tolerance != "forward":
        roundings[:] = roundings[-1]
    rows = [
        row._replace(rounding=float(largest))
        for row, largest in zip(check.rows, roundings, strict=True)
    ]
    return check._replace(rows=rows)
