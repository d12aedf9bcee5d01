"""Published sizes of the networks, shown beside our counts.

Paper: Table 2 of https://arxiv.org/abs/1608.06993. torchvision: `num_params` and `_ops` in
torchvision/models/densenet.py (version 0.29.1); `_ops` are the multiply-adds of the convolutions
and the linear layer. Neither has a number for DenseNet-264.
"""

from decimal import Decimal
from typing import Literal, NamedTuple

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.layers import weight_layers
from flax_densenet.network.variants import VARIANTS

Quantity = Literal["parameters", "multiply_adds"]
IMAGE_SIZE = (224, 224)  # that torchvision's multiply-adds belong to


class Published(NamedTuple):
    """One published number.

    Attributes:
      quantity: What it counts.
      value: The number with as many digits as were published: Decimal("1.0e6") is rounded.
      source: Who says so.
    """

    quantity: Quantity
    value: Decimal
    source: str

    @property
    def rounded_to(self) -> int:
        """The smallest difference that the digits can show; 1 if it is exact."""
        return 10 ** int(self.value.as_tuple().exponent)

    def agrees(self, count: int) -> bool:
        """Returns whether an exact count is the published number, after rounding to its digits."""
        return Decimal(count).quantize(self.value) == self.value


def _paper(parameters: str) -> tuple[Published, ...]:
    return (Published("parameters", Decimal(parameters), "paper, Table 2"),)


def _torchvision(parameters: str, multiply_adds: str) -> tuple[Published, ...]:
    return (
        Published("parameters", Decimal(parameters), "torchvision"),
        Published("multiply_adds", Decimal(multiply_adds), "torchvision"),
    )


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "densenet-40-12": _paper("1.0e6"),
    "densenet-100-12": _paper("7.0e6"),
    "densenet-100-24": _paper("27.2e6"),
    "densenet-bc-100-12": _paper("0.8e6"),
    "densenet-bc-250-24": _paper("15.3e6"),
    "densenet-bc-190-40": _paper("25.6e6"),
    "densenet121": _torchvision("7978856", "2.834e9"),
    "densenet169": _torchvision("14149480", "3.360e9"),
    "densenet201": _torchvision("20013928", "4.291e9"),
    "densenet161": _torchvision("28681000", "7.728e9"),
}


def find_variant(config: DenseNetConfig) -> str | None:
    """Returns the named network with the same layers and widths, if there is one."""
    if config.options:
        return None
    layers = weight_layers(config)
    for name, variant in VARIANTS.items():
        if weight_layers(variant) == layers:
            return name
    return None
