"""Reads the cropped digits of Street View House Numbers (Matlab files).

Format: http://ufldl.stanford.edu/housenumbers, "Format 2". Axes: N images.
"""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from flax_densenet.data.dataset import ArraySplit
from flax_densenet.data.readers.originals import Splits, damaged, unreadable

_SIZE = (32, 32, 3)
_HEAD_BYTES = 128
_COMPRESSED = 15
_CHUNK = 2**20  # bytes


def read_svhn(files: tuple[Path, ...], class_names: tuple[str, ...]) -> Splits:
    """Reads both splits; with the extra images it takes 4 GB of memory.

    Args:
      files: One or more files of training images, then the file of test images.
      class_names: One name per digit from 0.

    Returns:
      Images [N, 32, 32, 3] and their labels [N]; all training images are one split.

    Raises:
      InputError: A file cannot be read or is damaged.
    """
    *train_files, test_file = files
    train = [_read_split(file) for file in train_files]
    return Splits(
        train=ArraySplit(
            np.concatenate([split.image for split in train]),
            np.concatenate([split.label for split in train]),
        ),
        test=_read_split(test_file),
        class_names=class_names,
    )


def _read_split(file: Path) -> ArraySplit:
    variables = _read_variables(file)
    image, label = variables["X"], variables["y"]
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[:3] != _SIZE:
        raise damaged(
            file,
            f"has X {image.dtype} {list(image.shape)}",
            f"uint8 [{', '.join(map(str, _SIZE))}, N]",
        )
    num_images = image.shape[3]
    if label.dtype.kind not in "iuf" or label.shape != (num_images, 1):
        raise damaged(
            file, f"has y {label.dtype} {list(label.shape)}", f"integers [{num_images}, 1]"
        )
    outside = np.flatnonzero(~np.isin(label, np.arange(1, 11)))
    if outside.size:
        first = outside[0]
        raise damaged(
            file,
            f"has {outside.size} labels that are no digits, first label {label[first, 0]} of image "
            f"{first}",
            "1 to 9, and 10 for the digit 0",
        )
    return ArraySplit(
        np.ascontiguousarray(image.transpose(3, 0, 1, 2)), label[:, 0].astype(np.int32) % 10
    )


def _read_variables(file: Path) -> dict[str, np.ndarray]:
    from scipy import io  # takes a quarter of a second to import

    names = ("X", "y")
    try:
        opened = file.open("rb")
    except OSError as error:
        raise unreadable(file, error) from error
    with opened:
        try:
            _check_whole(opened)
            opened.seek(0)
            variables: dict[str, np.ndarray] = io.loadmat(opened, variable_names=names)
        except Exception as error:  # damaged files raise nearly everything
            got = f"cannot be read ({error})"
            raise damaged(file, got, "an original file, which is Matlab 5, compressed") from error
    missing = [name for name in names if name not in variables]
    if missing:
        raise damaged(file, f"has no variable {missing[0]}", "X and y")
    return variables


def _check_whole(opened: BinaryIO) -> None:
    """Checks the checksum of each part, since scipy crashes on some damaged ones."""
    if not opened.read(_HEAD_BYTES).startswith(b"MATLAB 5.0 MAT-file"):
        raise ValueError("another head than MATLAB 5.0 MAT-file")
    while head := opened.read(8):
        kind, size = struct.unpack("<II", head)
        if kind != _COMPRESSED:
            raise ValueError(f"a part of the kind {kind}, not {_COMPRESSED}")
        unpacker = zlib.decompressobj()
        while size:
            chunk = opened.read(min(size, _CHUNK))
            if not chunk:
                raise ValueError("it ends in the middle of a part")
            unpacker.decompress(chunk)
            size -= len(chunk)
        if not unpacker.eof:
            raise ValueError("a compressed part has no end")
