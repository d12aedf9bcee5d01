"""Gray pixels of more than 8 bits, which become 0 to 255 by a stated range of values.

Axes: H height, W width.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flax_densenet.data.images.formats import BrokenImage, readable_formats
from flax_densenet.errors import require

PixelRange = tuple[float, float]

_COLORS = ("LA", "RGB", "RGBA", "RGBX")


class UnknownRange(BrokenImage):
    """Pixels that would nearly all become black or white; leaving the file out is no remedy."""


class _Kind(NamedTuple):
    """A kind of pixels, what is taken for white, and how little of that is suspicious."""

    name: str
    white: int
    little: int


_FLOAT = _Kind("floating-point numbers", 255, 1)
_INTEGER = _Kind("integers of more than 8 bits", 65535, 4095)
_USUAL = (1, 255, 4095)  # largest values of other software and of cameras


def check_pixel_range(pixel_range: PixelRange | None) -> None:
    """Checks a range that a user gives.

    Raises:
      InputError: It is not two finite numbers, the second one larger.
    """
    given = pixel_range or (0, 1)
    is_range = len(given) == 2 and all(map(math.isfinite, given)) and given[0] < given[-1]
    require(is_range, "pixel_range", pixel_range, "LOW,HIGH: two numbers, the second one larger")


def is_wide(image: Image.Image) -> bool:
    """Returns whether an image is gray with pixels of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def is_wide_file(path: str) -> bool:
    """Returns whether a file can be read, and is gray with pixels of more than 8 bits."""
    try:
        with Image.open(path, formats=readable_formats()) as image:
            return is_wide(image)
    except Exception:  # whatever it is, reading the pixels will name it
        return False


def to_8_bits(image: Image.Image, pixel_range: PixelRange | None) -> Image.Image:
    """Returns an image with wide pixels in mode L, where Pillow would cut off above 255.

    Args:
      image: Gray image, whose values that are not numbers become black.
      pixel_range: Values that become 0 and 255; what is beyond becomes these, too. None is 0 to 255
        for floating-point numbers and 0 to 65535 for integers, if the values look like that.

    Raises:
      UnknownRange: No range is given, and the values are not as usual.
      BrokenImage: No value is inside of the range that is given.
    """
    values = np.asarray(image).astype(np.float64)
    kind = _FLOAT if image.mode == "F" else _INTEGER
    known = values[np.isfinite(values)] if image.mode == "F" else values
    if known.size and pixel_range is None:
        _check_usual(float(known.min()), float(known.max()), kind)
    elif known.size and pixel_range is not None:
        _check_inside(known, pixel_range)
    low, high = pixel_range or (0, kind.white)
    scaled = (np.nan_to_num(values, nan=low) - low) * (255 / (high - low))
    return Image.fromarray(_rounded(scaled))


def check_colors(image: Image.Image, *, had_16_bits: bool) -> None:
    """Checks colors of 16 bits, of which Pillow reads the upper 8.

    Args:
      image: The image in a mode of 8 bits.
      had_16_bits: What `has_16_bit_colors` said before the pixels were read.

    Raises:
      UnknownRange: Only the lower bits say something.
    """
    if not had_16_bits:
        return
    extrema = image.convert("RGB").getextrema()
    largest = max(high for _, high in extrema)  # type: ignore[misc]
    if 0 < largest <= _INTEGER.little // 256:
        raise UnknownRange(
            f"its colors of 16 bits are all below {256 * (largest + 1):.0f}, and only the upper 8 "
            "bits are read; write such files with 8 bits for each color"
        )


def has_16_bit_colors(image: Image.Image) -> bool:
    """Returns whether an image that was opened, and not read yet, has colors of 16 bits."""
    tiles = getattr(image, "tile", ())
    return image.mode in _COLORS and any(";16" in str(tile[3]) for tile in tiles)


def _check_usual(smallest: float, largest: float, kind: _Kind) -> None:
    if smallest == largest == 0 or (smallest >= 0 and kind.little < largest <= kind.white):
        return
    low, high = smallest, max(largest, smallest + 1)
    is_little = smallest >= 0 and largest <= kind.little
    if is_little:
        low, high = 0, next(white for white in _USUAL if largest <= white)
    dark = f", or --pixel_range=0,{kind.white} if it is only dark" if is_little else ""
    raise UnknownRange(
        f"its values are {smallest:g} to {largest:g}, and {kind.name} are taken as 0 (black) to "
        f"{kind.white} (white); say what is black and white in these files with --pixel_range "
        f"(in Python: pixel_range), such as --pixel_range={low:g},{high:g}{dark}"
    )


def _check_inside(values: np.ndarray, pixel_range: PixelRange) -> None:
    low, high = pixel_range
    if ((low < values) & (values < high)).any() or len(np.unique(values)) <= 2:  # a mask
        return
    raise BrokenImage(
        f"its values are {values.min():g} to {values.max():g}, and none is inside of pixel_range "
        f"(={low:g},{high:g}); the range is not that of this file"
    )


def _rounded(values: np.ndarray) -> UInt8[np.ndarray, "H W"]:
    return values.clip(0, 255).round().astype(np.uint8)
