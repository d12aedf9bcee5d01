"""The ladder: what is compared, rung by rung, the same in the tests and in the command.

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
    """A rung, climbed.

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
    nudged: tuple[Half, Batch] | None = None,
) -> Iterator[Check]:
    """Compares two halves, each rung when it is asked for.

    Args:
      ours: The Flax network.
      theirs: The PyTorch network with the same weights; outputs that it does not show, such as
        those of other people's blocks, are left out.
      tolerance: Differences allowed, of the type that both compute in.
      batch: Normalized images [B, C, H, W] and labels [B].
      steps: One batch of uint8 images for each step of training; none leaves training out.
      nudged: The PyTorch network and the batch with the last bits of all numbers changed, which
        measures what rounding can do; None trusts the tolerance alone.

    Returns:
      One check for each of `RUNGS`, in their order.
    """
    halves = [ours, theirs] if nudged is None else [ours, theirs, nudged[0]]
    batches = [batch, batch] if nudged is None else [batch, batch, nudged[1]]
    for phase in get_args(Phase):
        if phase == "steps" and not steps:
            return
        seen: list[Observation] | list[Trained]
        if phase == "steps":
            seen = [half.train(steps) for half in halves]
        else:
            train = phase == "training"
            pairs = zip(halves, batches, strict=True)
            seen = [half.observe(images, train=train) for half, images in pairs]
        for rung in RUNGS:
            if rung.phase == phase:
                yield _compare(rung, [getattr(one, rung.quantity) for one in seen], tolerance)


def _compare(rung: Rung, arrays: list[Arrays], tolerance: Tolerance) -> Check:
    ours, theirs, *nudged = arrays
    if rung.quantity == "activations":
        ours = {name: array for name, array in ours.items() if name in theirs}
    rows = differences(
        ours,
        theirs,
        getattr(tolerance, rung.tolerance),
        tolerance.gradient_floor if rung.tolerance == "gradient" else 0,
        nudged[0] if nudged else None,
    )
    return Check(rung, _with_rounding_so_far(rung, rows) if nudged else rows)


def _with_rounding_so_far(rung: Rung, rows: list[Difference]) -> list[Difference]:
    """Gives each array the largest rounding of all that are computed up to it.

    They hand their rounding on, but in float32 much of it comes from a few activations next to 0
    that change their sign, and which arrays these few show in differs from run to run.
    """
    order = -1 if rung.is_backward else 1
    so_far = itertools.accumulate((row.rounding or 0 for row in rows[::order]), max)
    ordered = [
        row._replace(rounding=rounding) for row, rounding in zip(rows[::order], so_far, strict=True)
    ]
    return ordered[::order]
