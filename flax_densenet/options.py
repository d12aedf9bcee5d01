"""What networks may have that the paper's do not: options, off by default (docs/options.md)."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, get_args

from flax_densenet.errors import InputError, require

if TYPE_CHECKING:
    from flax_densenet.config import DenseNetConfig

Activation = Literal["relu", "leaky_relu", "prelu", "sigmoid", "tanh"]
Order = Literal["norm-act-conv", "conv-norm-act"]
TransitionPool = Literal["avg", "max"]
Attention = Literal["none", "se"]

_OPTIONS = (
    "activation",
    "order",
    "transition_pool",
    "kernel_size",
    "groups",
    "attention",
    "attention_reduction",
)
_CHOICES = {
    "activation": Activation,
    "order": Order,
    "transition_pool": TransitionPool,
    "attention": Attention,
}


def chosen_options(config: "DenseNetConfig") -> dict[str, Any]:
    """Returns the options that are not off, {field: value}; a network of the paper has none.

    Args:
      config: The network.
    """
    off = {field.name: field.default for field in dataclasses.fields(config)}
    values = {name: getattr(config, name) for name in _OPTIONS}
    return {name: value for name, value in values.items() if value != off[name]}


def check_options(config: "DenseNetConfig") -> None:
    """Checks the values of the options.

    Args:
      config: The network, all of whose other fields are right.

    Raises:
      InputError: A value is not allowed, or not in this network.
    """
    for name, choices in _CHOICES.items():
        allowed = get_args(choices)
        require(getattr(config, name) in allowed, name, getattr(config, name), f"one of {allowed}")
    size = config.kernel_size
    require(size % 2 == 1, "kernel_size", size, "odd, so that the output is as large as the input")
    if config.attention == "none" and "attention_reduction" in chosen_options(config):
        raise InputError(
            f"attention_reduction (={config.attention_reduction}) has no effect without attention; "
            "leave it out, or choose attention se"
        )
    if config.groups > 1:
        _check_groups(config)


def _check_groups(config: "DenseNetConfig") -> None:
    groups, growth_rate = config.groups, config.growth_rate
    convolution = f"conv{config.convolutions_per_layer}"
    if growth_rate % groups:
        raise InputError(
            f"groups (={groups}) must divide growth_rate (={growth_rate}), the output channels of "
            f"denseblock1.denselayer1.{convolution}"
        )
    if config.bottleneck:
        return  # the input channels are a multiple of growth_rate
    channels = config.stem_channels
    for block, num_layers in enumerate(config.block_sizes, start=1):
        if channels % groups:
            raise InputError(
                f"groups (={groups}) must divide the {channels} input channels of "
                f"denseblock{block}.denselayer1.{convolution}; choose stem_width and compression "
                "accordingly, or a bottleneck, whose width is always a multiple of growth_rate"
            )
        channels = config.transition_channels(channels + num_layers * growth_rate)
