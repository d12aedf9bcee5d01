"""Tests of flax_densenet/data/images/decode.py and cropping.py on images that are written here."""

import io
import math
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flax_densenet import InputError
from flax_densenet.data.images.crop import random_box
from flax_densenet.data.images.decode import ImageFormat, decode
from flax_densenet.data.images.formats import BrokenImage
from flax_densenet.data.images.wide_pixels import UnknownRange

RED, GRAY_OF_RED = (200, 40, 10), 85  # 0.299 * 200 + 0.587 * 40 + 0.114 * 10 = 84.4...


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def solid(mode: str, value: Any, file_format: str = "PNG", **options: Any) -> bytes:
    return encoded(Image.new(mode, (9, 6), value), file_format, **options)


def palette(transparency: object) -> bytes:
    image = Image.new("P", (9, 6), 1)
    image.putpalette([0, 0, 0, *RED])
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    return encoded(image, **options)


def gray_16(value: int, file_format: str = "PNG") -> bytes:
    return encoded(Image.fromarray(np.full((6, 9), value, np.uint16)), file_format)


def pixel(data: bytes, channels: int) -> tuple[int, ...]:
    image = decode(data, ImageFormat(6, channels))
    assert image.shape == (6, 6, channels)
    assert image.dtype == np.uint8
    assert (image == image[0, 0]).all()
    return tuple(image[0, 0].tolist())


@pytest.mark.parametrize(
    ("data", "rgba"),
    [
        pytest.param(solid("1", 1), (255, 255, 255, 255), id="bilevel"),
        pytest.param(solid("L", 77), (77, 77, 77, 255), id="gray"),
        pytest.param(solid("LA", (77, 30)), (77, 77, 77, 30), id="gray-alpha"),
        pytest.param(solid("RGB", RED), (*RED, 255), id="rgb"),
        pytest.param(solid("RGBA", (*RED, 30)), (*RED, 30), id="rgba"),
        pytest.param(solid("RGB", RED, transparency=RED), (*RED, 0), id="rgb-transparent"),
        pytest.param(palette(None), (*RED, 255), id="palette"),
        pytest.param(palette(1), (*RED, 0), id="palette-transparent"),
        pytest.param(palette(bytes([255, 30])), (*RED, 30), id="palette-alpha"),
        pytest.param(solid("CMYK", (55, 215, 245, 0), "TIFF"), (*RED, 255), id="cmyk"),
        pytest.param(gray_16(25700), (100, 100, 100, 255), id="16-bit"),  # 25700 / 257
        pytest.param(gray_16(65535), (255, 255, 255, 255), id="16-bit-white"),
        pytest.param(gray_16(25700, "TIFF"), (100, 100, 100, 255), id="16-bit-tiff"),
        pytest.param(solid("I", 25700, "TIFF"), (100, 100, 100, 255), id="32-bit"),
        pytest.param(gray_16(0), (0, 0, 0, 255), id="16-bit-black"),
        pytest.param(solid("F", 100.4, "TIFF"), (100, 100, 100, 255), id="float"),
        pytest.param(solid("F", float("nan"), "TIFF"), (0, 0, 0, 255), id="nan"),
    ],
)
def test_every_mode_becomes_gray_rgb_and_rgba(data: bytes, rgba: tuple[int, ...]) -> None:
    assert pixel(data, 4) == rgba
    assert pixel(data, 3) == rgba[:3]
    (gray,) = pixel(data, 1)
    assert abs(gray - (0.299 * rgba[0] + 0.587 * rgba[1] + 0.114 * rgba[2])) <= 1


def test_jpeg_in_ycbcr_and_cmyk() -> None:
    for mode, value in (("RGB", RED), ("CMYK", (55, 215, 245, 0))):
        assert np.abs(np.subtract(pixel(solid(mode, value, "JPEG"), 3), RED)).max() <= 4


def test_orientation_of_the_camera_is_ignored() -> None:
    image = Image.new("RGB", (4, 4))
    image.paste(RED, (0, 0, 4, 2))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    np.testing.assert_array_equal(
        decode(encoded(image, exif=exif), ImageFormat(4)), np.asarray(image)
    )


def gradient(width: int, height: int) -> Image.Image:
    """An image whose red is the column and whose green is the row."""
    rows, columns = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8))


def test_center_of_an_image_that_needs_no_resizing() -> None:
    image = decode(encoded(gradient(20, 8)), ImageFormat(8))
    np.testing.assert_array_equal(image[0, :, 0], np.arange(6, 14))
    np.testing.assert_array_equal(image[:, 0, 1], np.arange(8))


def test_shorter_side_is_resized() -> None:
    image = decode(encoded(gradient(80, 40)), ImageFormat(8))  # 5 pixels become one
    # A triangle as wide as 10 pixels around the center of each 5; away from the border its mean is
    # the center: column 5 * (x + 0.5) - 0.5, after 4 of 16 columns are cut off.
    expected = 5 * (np.arange(4, 12) + 0.5) - 0.5
    assert np.abs(image[0, :, 0] - expected).max() <= 0.5
    assert np.abs(image[1:-1, 0, 1] - (5 * (np.arange(1, 7) + 0.5) - 0.5)).max() <= 0.5


def test_evaluation_of_random_crops_leaves_out_the_border() -> None:
    image_format = ImageFormat(224, random_crop=True)
    rows, columns = np.mgrid[:256, :256]
    square = np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8)
    image = decode(encoded(Image.fromarray(square)), image_format)
    np.testing.assert_array_equal(image, square[16:240, 16:240])


def test_training_crops_depend_on_the_generator_alone() -> None:
    data, image_format = encoded(gradient(90, 60)), ImageFormat(16, random_crop=True)
    crops = [decode(data, image_format, np.random.default_rng([1, 2, i])) for i in (5, 5, 6)]
    np.testing.assert_array_equal(crops[0], crops[1])
    assert (crops[0] != crops[2]).any()


def test_training_crop_shows_its_box() -> None:
    data, image_format = encoded(gradient(90, 60)), ImageFormat(16, random_crop=True)
    for seed in range(20):
        image = decode(data, image_format, np.random.default_rng(seed)).astype(int)
        box = random_box(90, 60, random=np.random.default_rng(seed))
        center = (box.left + box.right - 1) / 2, (box.top + box.bottom - 1) / 2
        assert np.abs(image[..., :2].mean(axis=(0, 1)) - center).max() < 1
        assert box.left <= image[..., 0].min() and image[..., 0].max() < box.right
        assert box.top <= image[..., 1].min() and image[..., 1].max() < box.bottom


def test_area_and_aspect_of_random_boxes() -> None:
    random, width, height = np.random.default_rng(0), 1000, 1000
    boxes = np.array([random_box(width, height, random=random) for _ in range(4000)])
    box_width, box_height = (boxes[:, 2:] - boxes[:, :2]).T
    assert boxes[:, :2].min() >= 0 and boxes[:, 2:].max() <= 1000
    area = box_width * box_height / (width * height)
    log_aspect = np.log(box_width / box_height)
    assert 0.0795 < area.min() < 0.09 and 0.95 < area.max() <= 1
    assert np.abs(log_aspect).max() < math.log(4 / 3) + 0.005
    assert abs(log_aspect.mean()) < 0.01
    # Uniform between -log 4/3 and log 4/3; large areas refuse some aspects.
    assert 0.14 < log_aspect.std() < math.log(4 / 3) / math.sqrt(3)
    place = boxes[:, 0] / np.maximum(width - box_width, 1)
    assert abs(place.mean() - 0.5) < 0.02


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((1000, 10), (493, 0, 506, 10)),  # 10 * 4/3 = 13.3 columns in the middle
        ((10, 1000), (0, 493, 10, 506)),  # 10 / (3/4) = 13.3 rows
        ((1, 1), (0, 0, 1, 1)),
    ],
)
def test_long_images_fall_back_to_the_middle(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    assert random_box(*size, random=np.random.default_rng(0)) == box


@pytest.mark.parametrize("random_crop", [True, False])
def test_smallest_image_is_enlarged(random_crop: bool) -> None:
    image_format = ImageFormat(7, random_crop=random_crop)
    image = decode(encoded(Image.new("RGB", (1, 1), RED)), image_format, np.random.default_rng(0))
    assert (image == RED).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no image that Pillow knows"),
        (b"<html>not found</html>", "no image that Pillow knows"),
        (encoded(gradient(90, 60), "JPEG")[:-200], "truncated"),
        (encoded(gradient(90, 60))[:100], "."),
    ],
)
def test_broken_file_is_told_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BrokenImage, match=reason):
        decode(data, ImageFormat(8))


def test_impossible_formats_are_refused() -> None:
    with pytest.raises(InputError, match=r"image_size \(=0\) must be at least 1 pixel"):
        ImageFormat(0)
    with pytest.raises(InputError, match=r"channels \(=2\) must be 1 .gray., 3 .* or 4"):
        ImageFormat(8, channels=2)


def values(low: float, high: float, kind: Any) -> np.ndarray:
    return np.linspace(low, high, 54).astype(kind).reshape(6, 9)


def tiff(array: np.ndarray) -> bytes:
    return encoded(Image.fromarray(array), "TIFF")


@pytest.mark.parametrize(
    ("array", "says", "hint"),
    [
        (values(0, 1, np.float32), "0 to 1, and floating-point", "0,1, or .*=0,255 if it is only"),
        (values(-1, 1, np.float32), "-1 to 1, and floating-point", "-1,1$"),
        (values(0, 4000, np.float32), "0 to 4000, and floating-point", "0,4000$"),
        (values(0, 4095, np.uint16), "0 to 4095, and integers", "0,4095, or .*=0,65535 if it is"),
        (values(0, 200, np.uint16), "0 to 200, and integers", "0,255, or"),
        (values(-1024, 3071, np.int32), "-1024 to 3071, and integers", "-1024,3071$"),
        (values(0, 2**20, np.int32), r"0 to 1\.04858e\+06, and integers", "0,"),
        (values(-5, -5, np.int32), "-5 to -5, and integers", "-5,-4"),
    ],
)
def test_unusual_values_are_refused_until_their_range_is_said(
    array: np.ndarray, says: str, hint: str
) -> None:
    with pytest.raises(UnknownRange, match=f"its values are {says}.*such as --pixel_range={hint}"):
        decode(tiff(array), ImageFormat(6, 1))


@pytest.mark.parametrize(
    ("array", "low", "high"),
    [
        (values(0, 1, np.float32), 0, 1),
        (values(0, 4095, np.uint16), 0, 4095),
        (values(-1024, 3071, np.int32), -160, 240),  # a window of computed tomography
        (values(0, 65535, np.uint16), 0, 65535),
    ],
)
def test_pixel_range_is_black_to_white(array: np.ndarray, low: float, high: float) -> None:
    image = decode(tiff(array), ImageFormat(6, 1, pixel_range=(low, high)))
    share = (array.astype(np.float64) - low) / (high - low)
    right = np.rint(255 * np.minimum(1, np.maximum(0, share)))[:, 2:8]  # the middle six columns
    assert np.abs(image[..., 0] - right).max() <= 1  # 1: halves are rounded either way
    assert len(np.unique(image)) > 5


def test_file_whose_values_are_not_in_the_range_is_broken() -> None:
    image_format = ImageFormat(6, 1, pixel_range=(0, 1))
    with pytest.raises(BrokenImage, match=r"0 to 255, and none is inside of pixel_range \(=0,1\)"):
        decode(tiff(values(0, 255, np.uint8).astype(np.float32)), image_format)
    mask = np.eye(6, dtype=np.float32)
    np.testing.assert_array_equal(decode(tiff(mask), image_format)[..., 0], 255 * mask)


def png_16(colors: np.ndarray) -> bytes:
    """A PNG file of 16-bit colors, which Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    height, width, _ = colors.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colors)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_12_bit_colors_in_files_of_16_bits_are_refused() -> None:
    colors = np.stack([values(0, 65535, np.uint16)] * 3, axis=-1)
    image = decode(png_16(colors), ImageFormat(6))
    np.testing.assert_array_equal(image, (colors // 256)[:, 2:8])  # some columns are cut off
    with pytest.raises(UnknownRange, match="colors of 16 bits are all below 4096, and only the"):
        decode(png_16(colors // 16), ImageFormat(6))


@pytest.mark.parametrize("pixel_range", [(1, 1), (2, 1), (0,), (0, float("inf"))])
def test_impossible_ranges_are_refused(pixel_range: Any) -> None:
    with pytest.raises(InputError, match=r"pixel_range \(=.*\) must be LOW,HIGH: two numbers"):
        ImageFormat(8, pixel_range=pixel_range)


@pytest.mark.parametrize("random_crop", [True, False])
@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000)])
def test_strips_that_would_become_giants_are_broken(
    size: tuple[int, int], random_crop: bool
) -> None:
    """Resized to 256, a strip of 60,000x1 has 3.9e9 pixels."""
    image_format = ImageFormat(224, random_crop=random_crop, shorter_side=256)
    giant = "x".join(str(256 * length) for length in size)
    with pytest.raises(BrokenImage, match=f"would become {giant} when its shorter side is resized"):
        decode(encoded(Image.new("L", size)), image_format, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("limit", "reason"), [(53, "more than Pillow's limit of 53"), (20, "bomb")]
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_above_the_limit_of_pillow_are_broken(
    limit: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = solid("L", 3)  # 9x6 = 54 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(BrokenImage, match=reason):
        decode(data, ImageFormat(1))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode(data, ImageFormat(1)).max() == 3
