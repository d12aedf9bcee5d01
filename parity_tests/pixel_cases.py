"""Image files whose pixels, as torchvision's evaluation prepares them, are written down.

`data/torchvision_pixels.json.gz` holds what torchvision 0.29.1 (Pillow 13.0.0) gave for each case:
`python -m parity_tests.make_pixels`, in an environment with torchvision, writes it.
"""

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

FILE = Path(__file__).parent / "data" / "torchvision_pixels.json.gz"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GRAY_MEAN, GRAY_STD = (0.5,), (0.25,)
_ORIENTATION, _UPSIDE_DOWN = 0x0112, 3
_STORED = 9  # rows and columns, evenly spaced


class PixelCase(NamedTuple):
    """An image file and how it is prepared.

    Attributes:
      mode: Pillow's, of the file.
      width: Of the file, in pixels.
      height: Of the file, in pixels.
      shorter_side: After resizing, in pixels.
      size: Of the part that is cut out, in pixels.
      interpolation: How it is resized.
      gray: Whether the network takes one channel.
      as_tensor: Whether torchvision resizes a tensor, not an image of Pillow.
    """

    mode: str
    width: int
    height: int
    shorter_side: int = 256
    size: int = 224
    interpolation: str = "bilinear"
    gray: bool = False
    as_tensor: bool = False

    @property
    def name(self) -> str:
        """The case's key in the file."""
        return "-".join(str(value) for value in self)


CASES = [
    PixelCase("RGB", 500, 375),
    PixelCase("RGB", 333, 499),
    PixelCase("RGB", 500, 375, as_tensor=True),
    PixelCase("RGB", 256, 256),
    PixelCase("RGB", 257, 1001),
    PixelCase("RGB", 100, 81),
    PixelCase("RGB", 100, 81, as_tensor=True),
    PixelCase("RGB", 7, 5),
    PixelCase("RGB", 1, 1),
    PixelCase("RGB", 501, 377, 255, 224),
    PixelCase("RGB", 501, 377, 303, 288, "bicubic"),
    PixelCase("RGB", 199, 301, 288, 288, "bicubic"),
    PixelCase("RGB", 91, 67, 32, 32),
    PixelCase("RGB", 91, 67, 37, 32, "nearest"),
    PixelCase("RGB", 31, 33, 32, 32),
    PixelCase("L", 301, 277),
    PixelCase("LA", 301, 277),
    PixelCase("RGBA", 301, 277),
    PixelCase("P", 301, 277),
    PixelCase("CMYK", 301, 277),
    PixelCase("1", 301, 277),
    PixelCase("RGB", 301, 277, gray=True),
    PixelCase("RGBA", 301, 277, gray=True),
    PixelCase("L", 29, 28, 28, 28, gray=True),
]


def encoded(case: PixelCase) -> bytes:
    """Returns the file: a lossless one, which notes that the camera was upside down."""
    y, x, c = np.mgrid[: case.height, : case.width, :4]
    waves = 64 * (2 + np.sin(x / (3 + c)) + np.cos(y / (5 + c) + x * y / 900))
    pixels = ((waves.astype(np.int64) + 37 * x * y * (c + 1)) % 256).astype(np.uint8)
    rgba = Image.fromarray(pixels)
    image = rgba.convert("RGB") if case.mode in ("P", "1", "CMYK") else rgba
    if case.mode == "P":
        image = image.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        image.info["transparency"] = 3
    elif image.mode != case.mode:
        image = image.convert(case.mode)
    exif = Image.Exif()
    exif[_ORIENTATION] = _UPSIDE_DOWN
    file = io.BytesIO()
    if case.mode == "CMYK":
        image.save(file, "TIFF")
    else:
        image.save(file, "PNG", exif=exif)
    return file.getvalue()


def stored_part(image: np.ndarray) -> np.ndarray:
    """Returns what is written down of [S, S, C]: evenly spaced rows and columns."""
    chosen = np.linspace(0, len(image) - 1, _STORED).round().astype(int)
    return image[np.ix_(chosen, chosen)]
