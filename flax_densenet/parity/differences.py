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
        """The tolerance, or what rounding explains if that is more."""
        return max(self.tolerance, ROUNDING_FACTOR * (self.rounding or 0))

    @property
    def agrees(self) -> bool:
        """Whether the arrays are equal within `allowed`; NaN and infinity never are."""
        return math.isfinite(self.relative) and self.relative <= self.allowed


def differences(
    ours: Arrays,
    theirs: Arrays,
    tolerance: float,
    floor: float = 0,
    nudged: Sequence[Arrays] = (),
) -> list[Difference]:
    """Compares arrays of the same names, in the order of `theirs`.

    Args:
      ours: Arrays of the Flax network.
      theirs: Arrays of the PyTorch network, or right values from elsewhere.
      tolerance: Largest relative difference allowed.
      floor: Smallest scale of an array, as a share of the largest value of all arrays.
      nudged: The same arrays as `theirs`, each time computed from weights and images whose last
        bits are changed.

    Returns:
      One row per array. The array's scale is its largest absolute value.

    Raises:
      AssertionError: A name is on one side only, or shapes differ.
    """
    assert set(ours) == set(theirs), f"names on one side only: {sorted(set(ours) ^ set(theirs))}"
    rows = []
    smallest_scale = floor * max(_largest(array) for array in theirs.values())
    for name, right in theirs.items():
        got, right = np.asarray(ours[name], np.float64), np.asarray(right, np.float64)
        assert got.shape == right.shape, f"{name}: got shape {got.shape}, wanted {right.shape}"
        scale = max(_largest(right), smallest_scale) or 1.0
        absolute = _largest(got - right)
        moved = [_largest(other[name] - right) / scale for other in nudged]
        values = (float(got), float(right)) if right.ndim == 0 else None
        rows.append(
            Difference(
                name=name,
                shape=right.shape,
                absolute=absolute,
                relative=absolute / scale,
                rounding=max(moved, default=None),
                tolerance=tolerance,
                values=values,
            )
        )
    return rows


def worst(rows: Sequence[Difference]) -> Difference:
    """Returns the row with the largest difference; one that does not agree comes first."""
    shown = [row for row in rows if not row.agrees] or rows
    return shown[int(np.argmax([row.relative for row in shown]))]  # NaN is the largest


def _largest(array: np.ndarray) -> float:
    return float(np.max(np.abs(array), initial=0))
