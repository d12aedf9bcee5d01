"""The ladder of comparisons, which tests and command climb rung by rung.

Axes: B batch, C channels, H height, W width.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from flax_densenet.parity.differences import Arrays, Difference, differences
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
    pairs = [(ours, batch), (theirs, batch), *nudged]
    for phase in get_args(Phase):
        if phase == "steps" and not steps:
            return
        seen: list[Observation] | list[Trained]
        if phase == "steps":
            seen = [half.train(steps) for half, _ in pairs[:3]]
        else:
            train = phase == "training"
            seen = [half.observe(images, train=train) for half, images in pairs]
        for rung in RUNGS:
            if rung.phase == phase:
                yield _compare(rung, [getattr(one, rung.quantity) for one in seen], tolerance)


def _compare(rung: Rung, arrays: list[Arrays], tolerance: Tolerance) -> Check:
    ours, theirs, *nudged = arrays
    if rung.quantity == "activations":
        ours, theirs = (
            {name: array for name, array in one.items() if name in other}
            for one, other in ((ours, theirs), (theirs, ours))
        )
    rows = differences(
        ours,
        theirs,
        getattr(tolerance, rung.tolerance),
        tolerance.gradient_floor if rung.tolerance == "gradient" else 0,
        nudged,
    )
    return Check(rung, _with_common_rounding(rung, rows) if nudged else rows)


def _with_common_rounding(rung: Rung, rows: list[Difference]) -> list[Difference]:
    """Gives each array the largest rounding that can have reached it.

    An output is reached by the rounding of all outputs before it. In gradients rounding also comes
    from single activations next to 0 that change their sign. Which ones they are, and which
    gradients they move, differs from run to run; so the largest rounding of all counts for each.
    """
    roundings = [row.rounding or 0 for row in rows]
    common = (
        itertools.accumulate(roundings, max)
        if rung.tolerance == "forward"
        else itertools.repeat(max(roundings), len(rows))
    )
    return [row._replace(rounding=largest) for row, largest in zip(rows, common, strict=True)]
