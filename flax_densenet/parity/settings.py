"""The precisions in which two networks can be compared, one row each."""

from typing import Literal, NamedTuple

from flax_densenet.config import ComputeType

Precision = Literal["float64", "float32", "default"]


class Setting(NamedTuple):
    """One precision.

    Attributes:
      dtype: Type of weights, images and computation.
      is_exact: Whether both frameworks keep all digits of the type in products.
      description: What that means, for people.
    """

    dtype: ComputeType
    is_exact: bool
    description: str


SETTINGS: dict[Precision, Setting] = {
    "float64": Setting("float64", True, "rounding far below any fault"),
    "float32": Setting("float32", True, 'precision "highest" in JAX, TF32 off in PyTorch'),
    "default": Setting("float32", False, "float32 as both frameworks compute it unless told"),
}
