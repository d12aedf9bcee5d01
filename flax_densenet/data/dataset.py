"""An image classification data set, checked when built.

Axes: N images, B batch, H height, W width, C channels.
"""

import dataclasses
import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int32, Integer, UInt8

from flax_densenet.errors import InputError

if TYPE_CHECKING:
    import jax

Indices = Integer[np.ndarray, " B"]

_MAX_VALUES_FOR_STATISTICS = 2**28  # 87,000 images of 32x32x3, or 1,783 of 224x224x3
_READ_AT_ONCE = 256  # images


class Examples(NamedTuple):
    """A batch of a split.

    Attributes:
      image: [B, H, W, C] uint8, 0 to 255.
      label: [B] int32, class indices from 0.
      readable: [B] bool; False if the image's file is broken, and `image` has another one.
    """

    image: UInt8[np.ndarray, "B H W C"]
    label: Int32[np.ndarray, " B"]
    readable: Bool[np.ndarray, " B"]


class Split(Protocol):
    """Images and their labels, in memory or on the disk."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image that is read."""

    @property
    def unreadable(self) -> Collection[str]:
        """Broken files found so far, if the user chose to skip them."""

    def __len__(self) -> int: ...

    def read(
        self, batches: Sequence[Indices], *, crop_seed: tuple[int, ...] | None = None
    ) -> Iterator[Examples]:
        """Yields the images at these indices, batch by batch.

        Args:
          batches: Indices from 0; each [B].
          crop_seed: Decides random crops of images on the disk, together with the image's index;
            None crops the center.
        """

    def subset(self, indices: Indices) -> "Split":
        """Returns the split of these images alone, in this order."""


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySplit:
    """A split in memory.

    Attributes:
      image: [N, H, W, C] uint8, 0 to 255.
      label: [N] int32, class indices from 0.
    """

    image: UInt8[np.ndarray, "N H W C"]
    label: Int32[np.ndarray, " N"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        _, height, width, channels = self.image.shape
        return height, width, channels

    @property
    def unreadable(self) -> Collection[str]:
        """No file: all images are in memory."""
        return ()

    def __len__(self) -> int:
        return len(self.label)

    def read(
        self, batches: Sequence[Indices], *, crop_seed: tuple[int, ...] | None = None
    ) -> Iterator[Examples]:
        """Yields the images at these indices; as `Split.read`, without any cropping."""
        for chosen in batches:
            yield Examples(self.image[chosen], self.label[chosen], np.ones(len(chosen), bool))

    def subset(self, indices: Indices) -> "ArraySplit":
        """Returns the split of these images alone, in this order."""
        return ArraySplit(self.image[indices], self.label[indices])


class ChannelStatistics(NamedTuple):
    """Mean and standard deviation that images are normalized with.

    Attributes:
      mean: Mean of each channel, in 0 to 255.
      std: Standard deviation of each channel, in 0 to 255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalize(self, image: "UInt8[jax.Array, 'B H W C']") -> "Float[jax.Array, 'B H W C']":
        """Returns (image - mean) / std in float32, all that happens to images in evaluation.

        Args:
          image: [B, H, W, C], 0 to 255.
        """
        import jax.numpy as jnp  # which data sets are read without

        mean, std = (jnp.asarray(value, jnp.float32) for value in self)
        return (image.astype(jnp.float32) - mean) / std


def check_scale(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Checks that what a user gives is for pixels of 0 to 255, as everything here is.

    Means of 0 with deviations of 1 leave pixels as they are, and may be meant.

    Args:
      mean: Mean of each channel, if it is given.
      std: Standard deviation of each channel, if it is given.

    Raises:
      InputError: All numbers are those of pixels from 0 to 1.
    """
    mean, std = tuple(mean or ()), tuple(std or ())
    are_small = all(0 <= value <= 1 for value in (*mean, *std))
    if not are_small or not (mean or std) or (set(mean), set(std)) == ({0}, {1}):
        return
    given = {"mean": mean, "std": std}
    wanted = " and ".join(
        f"{name} {','.join(f'{255 * value:.6g}' for value in values)}"
        for name, values in given.items()
        if values
    )
    raise InputError(
        f"mean (={mean}) and std (={std}) are those of pixels from 0 to 1, and here pixels are 0 "
        f"to 255; give 255 times as much: {wanted}"
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test images with the names of their classes.

    Attributes:
      name: Name, as given to `--dataset`.
      train: Images to train on.
      test: Images to report the error on.
      class_names: One name per class.
      validation: Images for tuning settings and choosing an epoch, if any.
      published_statistics: Mean and deviation by convention; None takes those of the training
        images.
      notes: Where the images come from and what was passed over, as far as it is not obvious;
        commands print it.

    Raises:
      InputError: Images or labels have wrong types or sizes, or labels are outside the classes.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    validation: Split | None = None
    published_statistics: ChannelStatistics | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for split_name in ("train", "validation", "test"):
            if (split := getattr(self, split_name)) is not None:
                self._check_split(split_name, split)
        if self.train.image_shape != self.test.image_shape:
            raise InputError(
                f"data set {self.name}: train images are {self.train.image_shape} and test "
                f"images {self.test.image_shape} [H, W, C]; wanted the same size for both"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.train.image_shape

    @property
    def unreadable(self) -> list[str]:
        """Broken files found so far in any split, if the user chose to skip them."""
        splits = [split for split in (self.train, self.validation, self.test) if split is not None]
        return sorted({name for split in splits for name in split.unreadable})

    def channel_statistics(self) -> ChannelStatistics:
        """Returns the mean and standard deviation for normalizing the images.

        Raises:
          InputError: A channel is constant, so that it cannot be normalized.
        """
        if self.published_statistics is not None:
            return self.published_statistics
        mean, std = _statistics(self.train)
        constant = np.flatnonzero(std == 0)
        if constant.size:
            raise InputError(
                f"data set {self.name}: channel {constant[0]} has the same value in every training "
                "image, so that its standard deviation is 0; remove the channel"
            )
        return ChannelStatistics(tuple(mean.tolist()), tuple(std.tolist()))

    def _check_split(self, split_name: str, split: Split) -> None:
        if not isinstance(split, ArraySplit):
            return  # images in files are checked when they are read
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


def _statistics(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation of each channel, over evenly spaced images if there are many."""
    every = math.ceil(len(split) * math.prod(split.image_shape) / _MAX_VALUES_FOR_STATISTICS)
    chosen = np.arange(0, len(split), every)
    parts = [chosen[i : i + _READ_AT_ONCE] for i in range(0, len(chosen), _READ_AT_ONCE)]
    total = squares = np.zeros(split.image_shape[-1])
    count = 0
    for examples in split.read(parts):
        pixels = examples.image[examples.readable].astype(np.float64)
        pixels = pixels.reshape(-1, pixels.shape[-1])
        total = total + pixels.sum(axis=0)
        squares = squares + np.square(pixels).sum(axis=0)
        count += len(pixels)
    mean = total / count
    # The sums of integers are exact, so that a constant channel gives exactly 0.
    return mean, np.sqrt(squares / count - np.square(mean))


# Independent of the run's seed, so that runs can be compared.
_SEED = 0


def hold_out(dataset: Dataset, num_images: int) -> Dataset:
    """Moves training images, the same ones in every run, to the validation split.

    Args:
      dataset: Data set, without a validation split if images are to be held out.
      num_images: Images to hold out; 0 returns the data set as it is.

    Raises:
      InputError: There are not that many training images, or there is a validation split.
    """
    total = len(dataset.train)
    if num_images == 0:
        return dataset
    if dataset.validation is not None:
        raise InputError(
            f"validation_images (={num_images}) would be held out of the training images, and "
            f"{dataset.name} has {len(dataset.validation):,} validation images of its own; give "
            "--validation_images 0 to use these"
        )
    if num_images >= total:
        raise InputError(
            f"validation_images (={num_images}) must be below the {total} training images of "
            f"{dataset.name}"
        )
    order = np.random.default_rng(_SEED).permutation(total)
    held_out, kept = np.sort(order[:num_images]), np.sort(order[num_images:])
    return dataclasses.replace(
        dataset,
        train=dataset.train.subset(kept),
        validation=dataset.train.subset(held_out),
    )
