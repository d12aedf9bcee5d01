"""Tolerances within which two networks are equal, with their reasons."""

from typing import NamedTuple


class Tolerance(NamedTuple):
    """Largest difference allowed, as a share of the largest value of the array compared.

    Attributes:
      forward: For outputs, losses and statistics.
      gradient: For gradients.
      gradient_floor: Smallest scale of a gradient, as a share of the network's largest.
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
    # twice. Some are small sums of large terms and keep the terms' rounding, for example the
    # gradient for a BatchNorm's scale before another BatchNorm: hence the floor.
    "float32": Tolerance(forward=1e-5, gradient=5e-5, gradient_floor=0.01, training=1e-5),
}
