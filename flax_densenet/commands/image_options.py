"""The flags for how images are prepared and what classes are called."""

import dataclasses

from flax_densenet.data.cropping import Interpolation
from flax_densenet.errors import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How images are prepared, and what classes are called; the checkpoint's if not given.

    Attributes:
      image_size: Height and width in pixels of what the network sees.
      shorter_side: Length in pixels of the shorter side after resizing, before the middle is cut
        out. With image_size alone it keeps its ratio to that.
      interpolation: How images are resized; pixels are averaged in shrinking.
      mean: Mean of each channel that is subtracted, in 0 to 255.
      std: Standard deviation of each channel that is divided by, in 0 to 255.
      class_names: File with the name of each class, one a line or a JSON list.
    """

    image_size: int | None = None
    shorter_side: int | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: str | None = None

    def __post_init__(self) -> None:
        for name in ("image_size", "shorter_side"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")
