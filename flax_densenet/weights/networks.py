"""Table of the networks that each software can build, by the arguments of its constructors."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.fields import Stem
from flax_densenet.weights.layouts import LAYOUTS


class Networks(NamedTuple):
    """The networks of a software; None is what its constructor leaves free.

    Attributes:
      stem: Its stem.
      bottleneck: Whether its dense layers have a bottleneck.
      bottleneck_factor: Width of that, in multiples of the growth rate.
      compression: Share of the feature maps that its transitions keep.
      growth_rate: Its growth rate.
      stem_factor: Output channels of its first convolution, in multiples of the growth rate.
      num_blocks: Number of its blocks.
      has_equal_blocks: Whether all of its blocks have as many layers.
      in_channels: Channels of its images.
      options: Extensions beyond the paper that it has, too.
    """

    stem: Stem | None = None
    bottleneck: bool | None = None
    bottleneck_factor: int | None = None
    compression: float | None = None
    growth_rate: int | None = None
    stem_factor: int | None = None
    num_blocks: int | None = None
    has_equal_blocks: bool | None = None
    in_channels: int | None = None
    options: tuple[str, ...] = ()


_TORCHVISION = Networks(stem="imagenet", bottleneck=True, compression=0.5)
_THREE_BLOCKS = Networks(
    stem="cifar",
    bottleneck_factor=4,
    stem_factor=2,
    num_blocks=3,
    has_equal_blocks=True,
    in_channels=3,
)
_PYTORCHCV = Networks(stem="cifar", bottleneck=True, bottleneck_factor=4, compression=0.5)
_KERAS = _TORCHVISION._replace(bottleneck_factor=4, growth_rate=32, stem_factor=2, num_blocks=4)
_ANY = ("torchvision", "flax")  # names of this package's own networks, in PyTorch and in Flax

NETWORKS: dict[str, Networks] = {
    "torchvision-2017": _TORCHVISION._replace(in_channels=3),
    "gpleiss": Networks(bottleneck=True, in_channels=3),
    "andreasveit": _THREE_BLOCKS,
    "bamos": _THREE_BLOCKS,
    "bearpaw": _THREE_BLOCKS,
    "pytorchcv": _PYTORCHCV,
    "pytorchcv-plain": _PYTORCHCV._replace(bottleneck=False, bottleneck_factor=None),
    "pytorchcv-imagenet": _PYTORCHCV._replace(stem="imagenet"),
    "monai": _TORCHVISION._replace(options=("activation",)),
    "monai-2020": _TORCHVISION,
    "keras": _KERAS,
    "keras-2": _KERAS,
    "keras-3": _KERAS,
    "flaxvision": _TORCHVISION,
}


def check_layout(config: DenseNetConfig, layout: str) -> None:
    """Checks that the software of a layout can build a network, and so load its weights.

    Args:
      config: The network.
      layout: Key of `LAYOUTS`.

    Raises:
      InputError: It cannot; every property that it lacks is named.
    """
    if layout in _ANY or not (lacking := list(_lacking(config, NETWORKS[layout]))):
        return
    family = layout.partition("-")[0]
    others = [
        name
        for name, networks in NETWORKS.items()
        if name.partition("-")[0] == family and not any(_lacking(config, networks))
    ]
    raise InputError(
        f"layout (={layout!r}) is for {LAYOUTS[layout].title}, which cannot build {config.title}: "
        f"{'; '.join(lacking)}; choose {' or '.join([*others, 'torchvision'])}"
    )


def _lacking(config: DenseNetConfig, networks: Networks) -> Iterator[str]:
    """Yields what a software's networks have not, in words."""
    sizes = config.block_sizes
    values = {
        "stem": config.stem,
        "bottleneck": config.bottleneck,
        "bottleneck_factor": config.bottleneck_factor if config.bottleneck else None,
        "growth_rate": config.growth_rate,
        "num_blocks": len(sizes),
        "in_channels": config.in_channels,
    }
    for name, value in values.items():
        wanted = getattr(networks, name)
        if None not in (wanted, value) and wanted != value:
            yield f"{name} is {value}, there {wanted}"
    factor = networks.stem_factor
    if factor is not None and config.stem_channels != factor * config.growth_rate:
        yield f"stem_width is {config.stem_channels}, there {factor} times the growth rate"
    if networks.has_equal_blocks and len(set(sizes)) > 1:
        yield f"blocks are {sizes}, there all equal"
    if networks.compression is not None and not _is_kept(config, networks.compression):
        yield f"compression is {config.compression:g}, there {networks.compression:g}"
    for name, value in config.options.items():
        if name not in networks.options:
            yield f"{name} is {value}, which it has not"


def _is_kept(config: DenseNetConfig, compression: float) -> bool:
    """Returns whether the transitions keep this share, which can be written in several ways."""
    channels = config.stem_channels
    for num_layers in config.block_sizes[:-1]:
        channels += num_layers * config.growth_rate
        kept = config.transition_channels(channels)
        if kept != math.floor(compression * channels):
            return False
        channels = kept
    return True
