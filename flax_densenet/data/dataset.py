"""An image classification data set held in memory, checked when built.

Axes: N images, H height, W width, C channels.
"""

import dataclasses

import numpy as np
from jaxtyping import Int32, UInt8

from flax_densenet.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Attributes:
      image: [N, H, W, C] uint8, 0 to 255.
      label: [N] int32, class indices from 0.
    """

    image: UInt8[np.ndarray, "N H W C"]
    label: Int32[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.label)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images with the names of their classes.

    Attributes:
      name: What `--dataset` calls it.
      train: Images to train on.
      test: Images to report the error on.
      class_names: One name per class.

    Raises:
      InputError: Images or labels cannot be trained on: wrong types or sizes, or labels outside the
        classes.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for split_name in ("train", "test"):
            self._check_split(split_name, getattr(self, split_name))
        if self.train.image.shape[1:] != self.test.image.shape[1:]:
            raise InputError(
                f"data set {self.name}: train images are {self.train.image.shape[1:]} and test "
                f"images {self.test.image.shape[1:]} [H, W, C]; wanted the same size for both"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        _, height, width, channels = self.train.image.shape
        return height, width, channels

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns mean and standard deviation of each channel of the training images, in 0 to 255.

        Raises:
          InputError: A channel is constant, so that it cannot be normalized.
        """
        pixels = self.train.image.reshape(-1, self.image_shape[-1])
        mean = pixels.mean(axis=0, dtype=np.float64)
        std = pixels.std(axis=0, dtype=np.float64)
        constant = np.flatnonzero(std == 0)
        if constant.size:
            raise InputError(
                f"data set {self.name}: channel {constant[0]} has the same value in every training "
                "image, so that its standard deviation is 0; remove the channel"
            )
        return tuple(mean.tolist()), tuple(std.tolist())

    def _check_split(self, split_name: str, split: Split) -> None:
        where = f"data set {self.name}, split {split_name}"
        if split.image.dtype != np.uint8 or split.image.ndim != 4:
            raise InputError(
                f"{where}: images are {split.image.dtype} of shape {split.image.shape}; "
                "wanted uint8 [N, H, W, C]"
            )
        if len(split.image) != len(split.label) or not len(split):
            raise InputError(
                f"{where}: {len(split.image)} images and {len(split.label)} labels; "
                "wanted the same number of both, at least 1"
            )
        outside = np.flatnonzero((split.label < 0) | (split.label >= self.num_classes))
        if outside.size:
            raise InputError(
                f"{where}: {outside.size} labels are outside the {self.num_classes} classes, first "
                f"label {split.label[outside[0]]} of image {outside[0]}; "
                f"wanted 0 to {self.num_classes - 1}"
            )
