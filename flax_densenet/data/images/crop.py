"""Center and random crops, resized as torchvision does it.

Sizes and boxes are in pixels; boxes are (left, top, right, bottom), as in Pillow.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

_AREA = (0.08, 1.0)  # of the whole image
_ASPECT = (3 / 4, 4 / 3)  # width to height
_LOG_ASPECT = (math.log(_ASPECT[0]), math.log(_ASPECT[1]))
_TRIES = 10


class Box(NamedTuple):
    """A part of an image, in pixels."""

    left: int
    top: int
    right: int
    bottom: int


def center_crop(
    image: Image.Image, *, shorter_side: int, size: int, interpolation: Interpolation = "bilinear"
) -> Image.Image:
    """Returns the middle of an image, resized so that its shorter side has a given length.

    Equal to torchvision's `Resize(shorter_side)` and `CenterCrop(size)`.

    Args:
      image: Image of any size.
      shorter_side: Length of the shorter side after resizing, in pixels; at least `size`.
      size: Height and width of the result, in pixels.
      interpolation: Pillow's name of the interpolation.
    """
    shorter = min(image.size)
    if shorter != shorter_side:
        width, height = (int(shorter_side * side / shorter) for side in image.size)
        image = image.resize((width, height), Image.Resampling[interpolation.upper()])
    left, top = (round((side - size) / 2) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def random_crop(image: Image.Image, *, size: int, random: np.random.Generator) -> Image.Image:
    """Returns a random part of an image, resized to a square.

    Args:
      image: Image of any size.
      size: Height and width of the result, in pixels.
      random: Decides which part.
    """
    box = random_box(*image.size, random=random)
    # Cropped first: resizing with `box=` would mix in the pixels around it.
    return image.crop(box).resize((size, size), Image.Resampling.BILINEAR)


def random_box(width: int, height: int, *, random: np.random.Generator) -> Box:
    """Returns a random part with 8 to 100 % of the area and an aspect of 3/4 to 4/3.

    The area and the logarithm of the aspect are uniform. If 10 tries give no box inside the image,
    the result is the middle, cut to the nearest aspect. This is torchvision's `RandomResizedCrop`.

    Args:
      width: Width of the image, in pixels.
      height: Height of the image, in pixels.
      random: Decides size and place.
    """
    for _ in range(_TRIES):
        area = width * height * random.uniform(*_AREA)
        aspect = math.exp(random.uniform(*_LOG_ASPECT))
        box_width = round(math.sqrt(area * aspect))
        box_height = round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(random.integers(height - box_height + 1))
            left = int(random.integers(width - box_width + 1))
            return Box(left, top, left + box_width, top + box_height)
    narrow, wide = _ASPECT
    box_width = min(width, max(1, round(height * wide)))
    box_height = min(height, max(1, round(width / narrow)))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return Box(left, top, left + box_width, top + box_height)
