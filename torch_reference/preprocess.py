"""Normalization and augmentation of images, in PyTorch.

To be read beside flax_densenet/training/augment.py.

Axes: B batch, H height, W width, C channels.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from flax_densenet.training.config import Augment

_MAX_SHIFT = 4  # pixels; paper, section 4.1


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Normalization and augmentation, which turn stored images into the network's input.

    Attributes:
      mean: Mean of each channel of the training images, in 0 to 255.
      std: Standard deviation of each channel, in 0 to 255.
      augment: "shift" mirrors training images and shifts them at random, "crop" mirrors them,
        "none" does nothing.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment

    def __call__(self, image: Tensor, generator: torch.Generator, *, train: bool) -> Tensor:
        """Normalizes and, in training, augments.

        Args:
          image: [B, H, W, C] uint8, 0 to 255.
          generator: Source of the randomness; unused without augmentation.
          train: Whether the images are trained on.

        Returns:
          [B, C, H, W] float32, each channel of the training set with mean 0 and deviation 1.
        """
        x = (image.float() - torch.tensor(self.mean)) / torch.tensor(self.std)
        x = x.permute(0, 3, 1, 2)  # [B, C, H, W]
        if train and self.augment != "none":
            x = _mirror(x, generator)
        if train and self.augment == "shift":
            x = _shift(x, generator)
        return x.contiguous()


def _mirror(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors each image with probability 1/2."""
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(-1), x)


def _shift(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts each image by -4 to 4 pixels in each direction."""
    height, width = x.shape[2:]
    # After normalization 0 is the mean, with which the authors' code pads.
    padded = F.pad(x, (_MAX_SHIFT, _MAX_SHIFT, _MAX_SHIFT, _MAX_SHIFT))
    shifts = torch.randint(2 * _MAX_SHIFT + 1, (len(x), 2), generator=generator).tolist()
    return torch.stack(
        [
            image[:, row : row + height, column : column + width]
            for image, (row, column) in zip(padded, shifts, strict=True)
        ]
    )
