"""What the fields of a network's description may be.

The options beside the paper's network are checked in `flax_densenet.options`.
"""

from typing import TYPE_CHECKING, Any, Literal, get_args

from flax_densenet.errors import InputError, require

if TYPE_CHECKING:
    from flax_densenet.config import DenseNetConfig

Stem = Literal["cifar", "imagenet"]
ComputeType = Literal["float32", "bfloat16", "float64"]

_POSITIVE = (
    "growth_rate",
    "bottleneck_factor",
    "num_classes",
    "in_channels",
    "kernel_size",
    "groups",
    "attention_reduction",
)
_INTERVALS: dict[str, tuple[str, float, float, str]] = {
    "compression": ("(", 0, 1, "]"),
    "dropout_rate": ("[", 0, 1, ")"),
    "batch_norm_momentum": ("(", 0, 1, "]"),
    "batch_norm_epsilon": ("(", 0, 1, ")"),
}
_CHOICES = {"stem": Stem, "dtype": ComputeType}


def check_fields(config: "DenseNetConfig") -> None:
    """Checks every field for itself, and the blocks and the depth against the others.

    Args:
      config: The network, whose blocks are a tuple if they are a sequence.

    Raises:
      InputError: A value is out of range, or the depth is not one that the blocks can have.
    """
    for name in _POSITIVE:
        _check_positive_integer(name, getattr(config, name))
    for name in ("depth", "stem_width"):
        if getattr(config, name) is not None:
            _check_positive_integer(name, getattr(config, name))
    require(isinstance(config.bottleneck, bool), "bottleneck", config.bottleneck, "True or False")
    for name, interval in _INTERVALS.items():
        _check_interval(name, getattr(config, name), interval)
    for name, choices in _CHOICES.items():
        allowed = get_args(choices)
        require(getattr(config, name) in allowed, name, getattr(config, name), f"one of {allowed}")
    _check_blocks(config)
    _check_depth(config)


def _check_blocks(config: "DenseNetConfig") -> None:
    if config.blocks is None:
        return
    is_sequence = isinstance(config.blocks, tuple) and len(config.blocks) > 0
    require(is_sequence, "blocks", config.blocks, "a tuple with one number of layers per block")
    for size in config.blocks:
        _check_positive_integer("every entry of blocks", size)


def _check_depth(config: "DenseNetConfig") -> None:
    if config.depth is None:
        require(
            config.blocks is not None or config.stem == "cifar",
            "blocks",
            None,
            "the number of layers of each block, which the imagenet stem does not imply; "
            "(6, 12, 24, 16) is DenseNet-121",
        )
        return
    if config.blocks is not None:
        raise InputError(
            f"depth (={config.depth}) and blocks (={config.blocks}) are both given; "
            "give one of them, since blocks alone fixes the depth"
        )
    if config.stem == "imagenet":
        raise InputError(
            f"depth (={config.depth}) cannot describe a net with the imagenet stem, whose blocks "
            "differ in size; give blocks, such as (6, 12, 24, 16) for DenseNet-121"
        )
    step = config.depth_step
    if config.depth < step + 4 or (config.depth - 4) % step:
        below = max(step + 4, config.depth - (config.depth - 4) % step)
        nearest = f"{below} and {below + step}" if below < config.depth else f"{below}"
        kind = "a bottleneck (-B, -BC)" if config.bottleneck else "a plain"
        raise InputError(
            f"depth (={config.depth}) must be {step}n+4 for {kind} net of three equal blocks; "
            f"nearest valid: {nearest}"
        )


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
