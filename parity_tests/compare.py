"""What "equal" means: every tolerance with its reason, and the comparison that names a culprit."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Tolerance(NamedTuple):
    """Largest difference allowed, as a share of the largest value of the array compared.

    Attributes:
      forward: For outputs, losses and statistics.
      gradient: For gradients.
      gradient_floor: Share of the largest gradient of the network that counts as an array's scale
        at least.
      training: For what ten steps of training change.
    """

    forward: float
    gradient: float
    gradient_floor: float
    training: float


TOLERANCES = {
    # Rounding alone stays below 1e-12 here; the smallest classic mistake shows above 1e-7
    # (test_mutations.py). 1e-10 tells one from the other with two digits to spare on either side.
    "float64": Tolerance(forward=1e-10, gradient=1e-10, gradient_floor=0, training=1e-10),
    # float32 has 6e-8 per operation; the frameworks sum in other orders. Gradients pass the network
    # twice. Some are small sums of large terms, such as that of a BatchNorm's scale in front of
    # another BatchNorm, and keep the terms' rounding: hence the floor.
    "float32": Tolerance(forward=1e-5, gradient=5e-5, gradient_floor=0.01, training=1e-5),
}

# Training DenseNet-121 on 4 images of 64x64 in float64: changing the last bit of every parameter
# moves PyTorch's own losses by 1e-11 of themselves at the third step and by 3e-9 at the fifth. No
# two machines can agree better than that, so from the fourth step on this is the bound.
LAST_BIT_AMPLIFIED = 1e-8


class Difference(NamedTuple):
    """How far one pair of arrays is apart."""

    name: str
    shape: tuple[int, ...]
    absolute: float
    relative: float


def differences(ours: Arrays, theirs: Arrays, floor: float = 0) -> list[Difference]:
    """Compares arrays of the same names, in the order of `theirs`.

    Args:
      ours: Arrays of the Flax network.
      theirs: Arrays of the PyTorch network, or right values from elsewhere.
      floor: Share of the largest value of all arrays that counts as an array's scale at least.

    Returns:
      One row per array; `relative` is the largest difference over the array's scale, which is its
      largest absolute value.

    Raises:
      AssertionError: A name is on one side only, or shapes differ.
    """
    assert set(ours) == set(theirs), f"names on one side only: {sorted(set(ours) ^ set(theirs))}"
    rows = []
    smallest_scale = floor * max(_largest(array) for array in theirs.values())
    for name, right in theirs.items():
        got, right = np.asarray(ours[name], np.float64), np.asarray(right, np.float64)
        assert got.shape == right.shape, f"{name}: got shape {got.shape}, wanted {right.shape}"
        absolute = _largest(got - right)
        scale = max(_largest(right), smallest_scale) or 1.0
        rows.append(Difference(name, right.shape, absolute, absolute / scale))
    return rows


def assert_close(ours: Arrays, theirs: Arrays, tolerance: float, floor: float = 0) -> None:
    """Asserts that every array agrees, naming the first that does not.

    Args:
      ours: Arrays of the Flax network.
      theirs: Arrays of the PyTorch network, in forward order.
      tolerance: Largest relative difference allowed.
      floor: As for `differences`.

    Raises:
      AssertionError: With the first diverging name and the number of those after it.
    """
    rows = differences(ours, theirs, floor)
    # "not <=" instead of ">" so that NaN fails.
    diverging = [row for row in rows if not row.relative <= tolerance]
    if diverging:
        first = diverging[0]
        raise AssertionError(
            f"{first.name} {first.shape} is the first of {len(diverging)} (of {len(rows)}) that "
            f"differ by more than {tolerance:g}: relative {first.relative:.3g}, "
            f"absolute {first.absolute:.3g}"
        )


def _largest(array: np.ndarray) -> float:
    return float(np.max(np.abs(array), initial=0))
