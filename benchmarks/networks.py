"""Networks by name: a variant of the paper, or densenet[-bc]-L-k."""

import dataclasses
import re

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.variants import IMAGE_SIZES, VARIANTS

_SLUG = re.compile(r"densenet-(bc-)?(\d+)-(\d+)")


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and the images that it is measured with.

    Attributes:
      name: The network, as it was asked for.
      config: What it is.
      image_size: Height and width of the images in pixels.
      batch_size: Images in a batch (B).
    """

    name: str
    config: DenseNetConfig
    image_size: int
    batch_size: int

    @property
    def title(self) -> str:
        """What is measured, for a heading."""
        size = self.image_size
        return f"{self.name}, {size}x{size} pixels, batch {self.batch_size}"


def make_case(name: str, image_size: int | None, batch_size: int) -> Case:
    """Returns what a name, a size and a batch size ask for.

    Args:
      name: Key of `VARIANTS`, or a slug such as "densenet-bc-190-24".
      image_size: Height and width in pixels; None is 32 with the cifar stem, 224 with the imagenet.
      batch_size: Images in a batch.

    Raises:
      InputError: There is no such network, or the images are too small for it.
    """
    config = _parse(name)
    size = image_size or IMAGE_SIZES[config.stem]
    config.check_image(height=size, width=size, channels=config.in_channels)
    return Case(name, config, size, batch_size)


def _parse(name: str) -> DenseNetConfig:
    if name in VARIANTS:
        return VARIANTS[name]
    match = _SLUG.fullmatch(name)
    if match is None:
        raise InputError(
            f"there is no network {name!r}; use one of {', '.join(VARIANTS)}, or "
            "densenet-L-k or densenet-bc-L-k with depth L and growth rate k"
        )
    bottleneck, depth, growth_rate = match.groups()
    return DenseNetConfig(
        depth=int(depth),
        growth_rate=int(growth_rate),
        bottleneck=bottleneck is not None,
        compression=0.5 if bottleneck else 1.0,
    )
