"""Reads the idx files of MNIST and Fashion-MNIST, with or without gzip.

Format: http://yann.lecun.com/exdb/mnist/. Axes: N images, H height, W width.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from flax_densenet.data.dataset import ArraySplit
from flax_densenet.data.readers.originals import Splits, check_labels, damaged, read_file

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

# Two zero bytes, the type (8 is unsigned byte) and the number of axes.
_IMAGES_MAGIC = bytes([0, 0, 8, 3])
_LABELS_MAGIC = bytes([0, 0, 8, 1])


def read_idx(files: tuple[Path, ...], class_names: tuple[str, ...]) -> Splits:
    """Reads both splits.

    Args:
      files: The files of `NAMES`, in that order, each with or without the suffix ".gz".
      class_names: One name per class.

    Returns:
      Images [N, H, W, 1] and their labels [N].

    Raises:
      InputError: A file cannot be read or is damaged, or images and labels differ in number.
    """
    train_image, train_label, test_image, test_label = files
    return Splits(
        train=_read_split(train_image, train_label, len(class_names)),
        test=_read_split(test_image, test_label, len(class_names)),
        class_names=class_names,
    )


def _read_split(images_file: Path, labels_file: Path, num_classes: int) -> ArraySplit:
    image = _read_array(images_file, _IMAGES_MAGIC)
    label = _read_array(labels_file, _LABELS_MAGIC)
    if len(image) != len(label):
        raise damaged(
            images_file,
            f"has {len(image)} images and {labels_file} {len(label)} labels",
            "the same number, from the same data set",
        )
    check_labels(labels_file, label, num_classes)
    return ArraySplit(image[..., np.newaxis], label.astype(np.int32))


def _read_array(file: Path, magic: bytes) -> UInt8[np.ndarray, "..."]:
    """Returns a file's array, [N, H, W] or [N]."""
    content = _read_unpacked(file)
    if content[:4] != magic:
        raise damaged(
            file,
            f"starts with {content[:4].hex(' ') or 'nothing'}",
            f"the idx format's {magic.hex(' ')}",
        )
    num_axes = magic[3]
    start = 4 + 4 * num_axes
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    wanted = start + math.prod(shape)
    if len(content) != wanted:
        raise damaged(
            file,
            f"has {len(content)} bytes (unpacked)",
            f"{wanted}, since its head says {' x '.join(map(str, shape))}",
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_unpacked(file: Path) -> bytes:
    content = read_file(file)
    if file.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(file, f"cannot be unpacked ({error})", "a whole gzip file") from error
