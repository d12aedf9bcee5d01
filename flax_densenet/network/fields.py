"""Types and ranges of a network's fields, each checked by itself."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from flax_densenet.errors import require

Stem = Literal["cifar", "imagenet"]
ComputeType = Literal["float32", "bfloat16", "float64"]
Activation = Literal["relu", "leaky_relu", "prelu", "sigmoid", "tanh"]
Order = Literal["norm-act-conv", "conv-norm-act"]
TransitionPool = Literal["avg", "max"]
Attention = Literal["none", "se"]

# Extensions beyond the paper, off by default (docs/options.md).
OPTIONS = (
    "activation",
    "order",
    "transition_pool",
    "kernel_size",
    "groups",
    "attention",
    "attention_reduction",
)

_CHOICES = {
    "stem": Stem,
    "dtype": ComputeType,
    "activation": Activation,
    "order": Order,
    "transition_pool": TransitionPool,
    "attention": Attention,
}
_POSITIVE = (
    "growth_rate",
    "bottleneck_factor",
    "num_classes",
    "in_channels",
    "kernel_size",
    "groups",
    "attention_reduction",
)
_POSITIVE_OR_NONE = ("depth", "stem_width")
_INTERVALS: dict[str, tuple[str, float, float, str]] = {
    "compression": ("(", 0, 1, "]"),
    "dropout_rate": ("[", 0, 1, ")"),
    "batch_norm_momentum": ("(", 0, 1, "]"),
    "batch_norm_epsilon": ("(", 0, 1, ")"),
}


def check_fields(values: Mapping[str, Any]) -> None:
    """Checks every field for itself.

    Args:
      values: The fields of a `DenseNetConfig`, {name: value}.

    Raises:
      InputError: A value is not allowed or out of range.
    """
    for name in _POSITIVE:
        _check_positive_integer(name, values[name])
    for name in _POSITIVE_OR_NONE:
        if values[name] is not None:
            _check_positive_integer(name, values[name])
    require(
        isinstance(values["bottleneck"], bool), "bottleneck", values["bottleneck"], "True or False"
    )
    for name, interval in _INTERVALS.items():
        _check_interval(name, values[name], interval)
    for name, choices in _CHOICES.items():
        allowed = get_args(choices)
        require(values[name] in allowed, name, values[name], f"one of {allowed}")
    blocks, size = values["blocks"], values["kernel_size"]
    if blocks is not None:
        is_sequence = isinstance(blocks, tuple) and len(blocks) > 0
        require(is_sequence, "blocks", blocks, "a tuple with one number of layers per block")
        for num_layers in blocks:
            _check_positive_integer("every entry of blocks", num_layers)
    require(size % 2 == 1, "kernel_size", size, "odd, so that the output is as large as the input")


def _check_positive_integer(name: str, value: Any) -> None:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    require(is_integer and value >= 1, name, value, "an integer of at least 1")


def _check_interval(name: str, value: Any, interval: tuple[str, float, float, str]) -> None:
    opening, low, high, closing = interval
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    inside = is_number and low <= value <= high  # also False for NaN
    inside = inside and not (opening == "(" and value == low)
    inside = inside and not (closing == ")" and value == high)
    require(inside, name, value, f"a number in {opening}{low}, {high}{closing}")
