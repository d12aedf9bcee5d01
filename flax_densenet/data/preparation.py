"""How an image file is prepared for a network: a record that travels with the weights."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from flax_densenet.data.dataset import ChannelStatistics
from flax_densenet.data.images.crop import Interpolation
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.wide_pixels import PixelRange, check_pixel_range
from flax_densenet.errors import InputError, require
from flax_densenet.network.config import DenseNetConfig

_CIFAR_SIZE = 32
_IMAGENET_SIZE, _IMAGENET_SHORTER_SIDE = 224, 256
# Augmentations that cut a random part out of images in files.
CROPPED = ("crop", "crop_color")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """Resizing, cropping and normalization in evaluation; None is what is not known.

    Attributes:
      size: Height and width of the part that is cut out of the middle, in pixels.
      shorter_side: Length of the image's shorter side after resizing, before cutting, in pixels.
      interpolation: Pillow's name of the resizing filter; shrinking averages pixels.
      mean: Mean of each channel that is subtracted, in 0 to 255.
      std: Standard deviation of each channel that is divided by, in 0 to 255.
      pixel_range: Values that become 0 and 255 where gray pixels have more than 8 bits; None is
        the usual ones, where a file looks like that.

    Raises:
      InputError: Mean and deviation do not belong together, or a number is out of range.
    """

    size: int | None = None
    shorter_side: int | None = None
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pixel_range: PixelRange | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            if (values := getattr(self, name)) is not None:  # JSON has lists only
                object.__setattr__(self, name, tuple(values))
                require(all(map(math.isfinite, values)), name, values, "finite numbers")
        if self.pixel_range is not None:
            object.__setattr__(self, "pixel_range", tuple(self.pixel_range))
            check_pixel_range(self.pixel_range)
        lengths = [None if values is None else len(values) for values in (self.mean, self.std)]
        if lengths[0] != lengths[1]:
            raise InputError(
                f"mean (={self.mean}) and std (={self.std}) must both have one number for each "
                "channel; give both"
            )
        is_positive = self.std is None or all(value > 0 for value in self.std)
        require(is_positive, "std", self.std, "numbers above 0, one for each channel")

    @property
    def statistics(self) -> ChannelStatistics | None:
        """What images are normalized with, if that is known."""
        if self.mean is None or self.std is None:
            return None
        return ChannelStatistics(self.mean, self.std)

    def for_channels(self, channels: int) -> "Preparation":
        """Returns the same, but without mean and deviation if they are for other channels."""
        if self.mean is None or len(self.mean) == channels:
            return self
        return dataclasses.replace(self, mean=None, std=None)

    def resized_to(self, size: int) -> "Preparation":
        """Returns the same for another size, with the same ratio of shorter side and size."""
        multiple = self.shorter_side / self.size if self.shorter_side and self.size else 1
        return dataclasses.replace(self, size=size, shorter_side=round(size * multiple))

    def image_format(self, channels: int) -> ImageFormat:
        """Returns size and channels that every image file is brought to.

        Args:
          channels: Image channels of the network.

        Raises:
          InputError: The size is not known, or no image can have it.
        """
        if self.size is None:
            raise InputError(
                "the size of the images that the network was trained on is not in the file; "
                "give it in pixels with --image_size (in Python: image_size)"
            )
        return ImageFormat(
            self.size,
            channels,
            shorter_side=self.shorter_side,
            interpolation=self.interpolation,
            pixel_range=self.pixel_range,
        )

    def known_statistics(self, channels: int) -> ChannelStatistics:
        """Returns what images are normalized with.

        Args:
          channels: Image channels of the network.

        Raises:
          InputError: That is not known, or it is for other channels.
        """
        known = self.for_channels(channels).statistics
        if known is None:
            raise InputError(
                f"what images of {channels} channel(s) were normalized with in training is not "
                f"in the file; give it with --mean and --std (in Python: mean, std), {channels} "
                "number(s) in 0 to 255 for each"
            )
        return known

    def to_record(self) -> dict[str, Any]:
        """Returns the record as JSON holds it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Preparation":
        """Reads what `to_record` returned.

        Raises:
          TypeError: The record has other fields, or values of other types.
          InputError: A value is out of range.
        """
        return cls(**record)


def usual_preparation(
    config: DenseNetConfig, statistics: ChannelStatistics | None = None
) -> Preparation:
    """Returns the usual preparation, for a network whose file says nothing.

    Args:
      config: The network. With the imagenet stem the shorter side becomes 256 pixels and 224x224
        are cut out, as torchvision does. With the cifar stem images become 32x32.
      statistics: What images are normalized with, if that is known.
    """
    size = shorter_side = _CIFAR_SIZE
    if config.stem == "imagenet":
        size, shorter_side = _IMAGENET_SIZE, _IMAGENET_SHORTER_SIDE
    mean, std = statistics or (None, None)
    return Preparation(size=size, shorter_side=shorter_side, mean=mean, std=std).for_channels(
        config.in_channels
    )


def trained_format(
    image_size: int | None,
    augment: str,
    channels: int,
    *,
    pixel_range: PixelRange | None = None,
) -> ImageFormat | None:
    """Returns what a training brings images in files to; None if they have one size already.

    Args:
      image_size: Height and width, in pixels; None if the images have one size already.
      augment: The training's augmentation.
      channels: Image channels of the network.
      pixel_range: As `ImageFormat`.
    """
    if image_size is None:
        return None
    return ImageFormat(
        image_size, channels, random_crop=augment in CROPPED, pixel_range=pixel_range
    )


def trained_preparation(
    image_size: int | None,
    augment: str,
    channels: int,
    *,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    pixel_range: PixelRange | None = None,
) -> Preparation:
    """Returns how a training prepares images for its evaluation.

    Args:
      image_size: As for `trained_format`, as are the next two.
      augment: The training's augmentation.
      channels: Image channels of the network.
      mean: Mean of each channel that it subtracts, in 0 to 255.
      std: Standard deviation of each channel that it divides by, in 0 to 255.
      pixel_range: As `ImageFormat`.
    """
    trained = trained_format(image_size, augment, channels)
    return Preparation(
        size=trained.size if trained else None,
        shorter_side=trained.resized_side if trained else None,
        mean=None if mean is None else tuple(mean),
        std=None if std is None else tuple(std),
        pixel_range=pixel_range,
    )
