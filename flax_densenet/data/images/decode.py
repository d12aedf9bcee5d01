"""Decodes an image file into the array that a network reads.

Axes: H height, W width, C channels.
"""

import dataclasses
import io
import math
from typing import get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flax_densenet.data.images.crop import Interpolation, center_crop, random_crop
from flax_densenet.data.images.formats import BrokenImage, readable_formats
from flax_densenet.data.images.wide_pixels import (
    PixelRange,
    check_colors,
    check_pixel_range,
    has_16_bit_colors,
    is_wide,
    to_8_bits,
)
from flax_densenet.errors import InputError, require

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_GRAY = ("1", "L", "LA", "La")


@dataclasses.dataclass(frozen=True)
class ImageFormat:
    """Size, channels and cropping of the images of a data set.

    Attributes:
      size: Height and width (S), in pixels.
      channels: 1 for gray, 3 for red, green, blue, 4 with an alpha channel.
      random_crop: True trains on random parts of 8 to 100 % of the area, and evaluates on the
        middle after resizing the shorter side to S * 256/224. False resizes the shorter side to S
        and takes the middle, in training and evaluation.
      shorter_side: Length of the shorter side after evaluation has resized it, in pixels; None is
        the length above.
      interpolation: Pillow's name of the interpolation in evaluation; shrinking averages pixels.
      pixel_range: Values that become 0 and 255 where gray pixels have more than 8 bits, as
        `to_8_bits` takes it.

    Raises:
      InputError: No image can have this format.
    """

    size: int
    channels: int = 3
    random_crop: bool = False
    shorter_side: int | None = None
    interpolation: Interpolation = "bilinear"
    pixel_range: PixelRange | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise InputError(f"image_size (={self.size}) must be at least 1 pixel")
        if self.channels not in _MODES:
            raise InputError(
                f"channels (={self.channels}) must be 1 (gray), 3 (red, green, blue) or 4 (with "
                "alpha)"
            )
        if self.resized_side < self.size:
            raise InputError(
                f"the shorter side (={self.resized_side}) must be at least image_size "
                f"(={self.size}), which is cut out of it; give a larger one with --shorter_side"
            )
        names = get_args(Interpolation)
        require(self.interpolation in names, "interpolation", self.interpolation, f"one of {names}")
        check_pixel_range(self.pixel_range)

    @property
    def resized_side(self) -> int:
        """Length of the shorter side after evaluation has resized it, in pixels."""
        if self.shorter_side is not None:
            return self.shorter_side
        return round(self.size * 256 / 224) if self.random_crop else self.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        return self.size, self.size, self.channels


def decode(
    encoded: bytes, image_format: ImageFormat, random: np.random.Generator | None = None
) -> UInt8[np.ndarray, "H W C"]:
    """Returns an image in one format, whatever the file's mode and size.

    As torchvision's `ImageFolder` does, it drops alpha if the format has none, so that transparent
    pixels show the colour in the file, and ignores the orientation that a camera notes (EXIF).
    Gray pixels of more than 8 bits become 0 to 255 as `to_8_bits` says. An animation gives its
    first frame. If the format has alpha, resizing weights colours with it.

    Args:
      encoded: The file's content.
      image_format: Size (S) and channels (C) of the result.
      random: Chooses the part to cut out if the format has random crops; None takes the middle.

    Returns:
      The image, [S, S, C] uint8, 0 to 255.

    Raises:
      BrokenImage: Pillow cannot read it, or it has too many pixels, or becomes as large when its
        shorter side is resized.
      UnknownRange: Its values are not those that its kind of pixels usually has.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=readable_formats()) as file:
            _check_size(file.size, image_format)
            image = _in_mode(file, _MODES[image_format.channels], image_format.pixel_range)
    except BrokenImage:
        raise
    except Exception as error:  # broken files make Pillow's decoders raise nearly everything
        reason = "no image that Pillow knows" if _is_unknown(error) else str(error)
        raise BrokenImage(reason or type(error).__name__) from error
    size = image_format.size
    if image_format.random_crop and random is not None:
        image = random_crop(image, size=size, random=random)
    else:
        image = center_crop(
            image,
            shorter_side=image_format.resized_side,
            size=size,
            interpolation=image_format.interpolation,
        )
    return np.asarray(image).reshape(image_format.shape)


def _check_size(size: tuple[int, int], image_format: ImageFormat) -> None:
    """Refuses before anything is decoded what would take gigabytes."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None:
        return
    width, height = size
    if width * height > limit:
        raise BrokenImage(
            f"it has {width}x{height} pixels, more than Pillow's limit of {limit:,}; shrink it"
        )
    side = image_format.resized_side
    if side * side * max(size) > limit * min(size):
        resized = "x".join(str(math.floor(side * length / min(size))) for length in size)
        raise BrokenImage(
            f"it has {width}x{height} pixels, and would become {resized} when its shorter side is "
            f"resized to {side}, more than Pillow's limit of {limit:,} pixels; cut it"
        )


def _in_mode(image: Image.Image, mode: str, pixel_range: PixelRange | None) -> Image.Image:
    if is_wide(image):
        return to_8_bits(image, pixel_range).convert(mode)
    had_16_bits = has_16_bit_colors(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # Pillow warns of transparency on the direct way
    elif mode == "L" and image.mode not in _GRAY:
        image = image.convert("RGB")  # there is no direct way from CMYK
    check_colors(image, had_16_bits=had_16_bits)
    return image.convert(mode)


def _is_unknown(error: Exception) -> bool:
    return isinstance(error, Image.UnidentifiedImageError)
