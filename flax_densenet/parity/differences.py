"""Differences between two sets of arrays, name by name."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]

# How many times further apart than PyTorch from itself, when the last bits of its input change, two
# frameworks may be. DenseNet (L=40, k=12) in float32, 24 comparisons: up to 2.7 times with the
# gradients of one changed run as measure, up to 1.0 with the largest of three; outputs 0.2 times.
ROUNDING_FACTOR = 3

# A larger allowance decides nothing. The smallest classic mistake (test_mutations.py), an epsilon
# of 1e-3 for 1e-5, moves outputs and weights by 3e-3 of the scale, running statistics by 1e-3 and
# gradients by 6e-3 to 3e-1. An array that may differ by more could have such a fault, and be called
# equal for no other reason than that rounding is as large.
DECISIVE = 1e-3


class Difference(NamedTuple):
    """The difference between two arrays of one name.

    Attributes:
      name: Name of both.
      shape: Shape of both, in PyTorch's layout.
      absolute: Largest absolute difference.
      relative: The same over the array's scale.
      rounding: Relative difference that the last bits of the input alone make in PyTorch, if it was
        measured. `flax_densenet.parity.ladder` shares it among arrays.
      tolerance: Largest relative difference allowed between equal networks.
      values: Flax's and PyTorch's value, if they are single numbers.
    """

    name: str
    shape: tuple[int, ...]
    absolute: float
    relative: float
    rounding: float | None
    tolerance: float
    values: tuple[float, float] | None

    @property
    def allowed(self) -> float:
        """The tolerance, or what rounding explains if that is more; NaN explains everything."""
        rounding = self.rounding or 0
        return math.inf if math.isnan(rounding) else max(self.tolerance, ROUNDING_FACTOR * rounding)

    @property
    def differs(self) -> bool:
        """Whether the arrays are further apart than `allowed`; with NaN and infinity they are."""
        return not (math.isfinite(self.relative) and self.relative <= self.allowed)

    @property
    def is_undecided(self) -> bool:
        """Whether they are within an allowance, beyond the tolerance, that could hide a fault."""
        return not self.differs and self.relative > self.tolerance and self.allowed > DECISIVE

    @property
    def agrees(self) -> bool:
        """Whether the arrays are equal, and a fault would have been seen."""
        return not self.differs and not self.is_undecided


def differences(
    ours: Arrays, theirs: Arrays, tolerance: float, floor: float = 0
) -> list[Difference]:
    """Compares arrays of the same names, in the order of `theirs`.

    Args:
      ours: Arrays of the Flax network.
      theirs: Arrays of the PyTorch network, or right values from elsewhere.
      tolerance: Largest relative difference allowed.
      floor: Smallest scale of an array, as a share of the largest value of all arrays.

    Returns:
      One row per array. The array's scale is its largest absolute value.

    Raises:
      AssertionError: A name is on one side only, or shapes differ.
    """
    rows = []
    for name, (absolute, relative) in _distances(ours, theirs, floor).items():
        right = np.asarray(theirs[name])
        values = (float(ours[name]), float(right)) if right.ndim == 0 else None
        rows.append(Difference(name, right.shape, absolute, relative, None, tolerance, values))
    return rows


def with_rounding(
    rows: Sequence[Difference], theirs: Arrays, nudged: Arrays, floor: float = 0
) -> list[Difference]:
    """Returns the rows with what rounding does to PyTorch, if that is more than they knew.

    Args:
      rows: Differences from `theirs`.
      theirs: The arrays of the PyTorch network.
      nudged: The same, computed from weights and images whose last bits are changed.
      floor: As for `differences`.
    """
    before, after = ({row.name: one[row.name] for row in rows} for one in (theirs, nudged))
    moved = _distances(after, before, floor)
    return [
        # NaN is the largest.
        row._replace(rounding=float(np.max([row.rounding or 0, moved[row.name][1]])))
        for row in rows
    ]


def _distances(arrays: Arrays, right: Arrays, floor: float) -> dict[str, tuple[float, float]]:
    """Returns the largest absolute difference of each two arrays, and its share of the scale."""
    assert set(arrays) == set(right), f"names on one side only: {sorted(set(arrays) ^ set(right))}"
    largest = {name: _largest(array) for name, array in right.items()}
    smallest_scale = floor * max(largest.values())
    found = {}
    for name, scale in largest.items():
        got, wanted = np.asarray(arrays[name], np.float64), np.asarray(right[name], np.float64)
        assert got.shape == wanted.shape, f"{name}: got shape {got.shape}, wanted {wanted.shape}"
        absolute = _largest(got - wanted)
        found[name] = absolute, absolute / (max(scale, smallest_scale) or 1.0)
    return found


def worst(rows: Sequence[Difference]) -> Difference:
    """Returns the row with the largest difference, of those that differ or else are undecided."""
    differing = [row for row in rows if row.differs]
    shown = differing or [row for row in rows if row.is_undecided] or rows
    return shown[int(np.argmax([row.relative for row in shown]))]  # NaN is the largest


def _largest(array: np.ndarray) -> float:
    return float(np.max(np.abs(array), initial=0))
