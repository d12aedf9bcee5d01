"""Input and output of an exported network, and notes for its user.

Axes: B batch, H height, W width, C channels, K classes.
"""

import dataclasses
from typing import Any, Literal

from flax_densenet import __version__
from flax_densenet.data.dataset import ChannelStatistics
from flax_densenet.data.outputs import Outputs
from flax_densenet.data.preparation import Preparation
from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig

Axes = Literal["BHWC", "BCHW"]
INPUT_NAME, OUTPUT_NAME = "image", "logits"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interface:
    """Input of an exported network; the batch size is always free.

    Attributes:
      axes: Order of the image's axes.
      channels: Image channels (C).
      image_size: Height and width in pixels; None leaves both free.
      preparation: How images were prepared in training, as far as that is known.
      class_names: One name per class, if known.
      outputs: How the logits are read.
      is_uint8: Whether the network takes pixels from 0 to 255 and normalizes them itself.

    Raises:
      InputError: It shall normalize, and mean and deviation are not known.
    """

    axes: Axes
    channels: int
    image_size: tuple[int, int] | None = None
    preparation: Preparation = dataclasses.field(default_factory=Preparation)
    class_names: tuple[str, ...] | None = None
    outputs: Outputs = dataclasses.field(default_factory=Outputs)
    is_uint8: bool = False

    def __post_init__(self) -> None:
        if self.is_uint8 and self.statistics is None:
            raise InputError(
                "--uint8 normalizes inside the exported network, and the checkpoint does not say "
                "with what; give --mean and --std, or leave --uint8 out"
            )

    @property
    def statistics(self) -> ChannelStatistics | None:
        """Mean and deviation that images were normalized with, if known."""
        return self.preparation.statistics

    def shape(self, batch: Any, height: Any = None, width: Any = None) -> tuple[Any, ...]:
        """Returns the image's shape, in the order of its axes.

        Args:
          batch: Images.
          height: Height, if it is free.
          width: Width, if it is free.
        """
        height, width = self.image_size or (height, width)
        sizes = {"B": batch, "H": height, "W": width, "C": self.channels}
        return tuple(sizes[axis] for axis in self.axes)

    def describe(self, config: DenseNetConfig, source: str) -> dict[str, Any]:
        """Returns what is written with the network, as JSON can hold it.

        Args:
          config: The network.
          source: Name of the checkpoint.
        """
        prepared = self.preparation
        minimum = config.min_image_size
        return {
            "network": config.title,
            "config": dataclasses.asdict(config),
            "input": {
                "name": INPUT_NAME,
                "axes": self.axes,
                "shape": self.shape(None),
                "dtype": "uint8" if self.is_uint8 else "float32",
                "smallest_image": [minimum, minimum],
            },
            "output": {
                "name": OUTPUT_NAME,
                "axes": "BK",
                "shape": (None, config.num_classes),
                **self.outputs.to_record(),
            },
            "class_names": self.class_names,
            "resizing": {
                "shorter_side": prepared.shorter_side,
                "central_crop": prepared.size,
                "interpolation": prepared.interpolation,
            },
            "pixel_range": prepared.pixel_range,
            "normalization": {
                "mean": prepared.mean,
                "std": prepared.std,
                "of": "pixels from 0 to 255: (pixel - mean) / std in each channel",
                "is_inside": self.is_uint8,
            },
            "source": source,
            "made_by": f"flax-densenet {__version__}",
        }
