"""The reader of idx files, on files that are written here and on the real ones."""

import gzip
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flax_densenet import InputError
from flax_densenet.data import ArraySplit
from flax_densenet.data.readers.idx import NAMES, read_idx
from flax_densenet.data.readers.originals import Splits

CLASSES = tuple("abcdefghij")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
GET_AGAIN = "; get the file again$"


def images(n: int, *, first: int = 0) -> bytes:
    """A file of n images of 3 rows and 2 columns; pixels count up by 10, 2 and 1 along the axes."""
    pixels = [
        10 * (first + i) + 2 * row + column
        for i in range(n)
        for row in range(3)
        for column in range(2)
    ]
    return struct.pack(">BBBBIII", 0, 0, 8, 3, n, 3, 2) + bytes(pixels)


def labels(*classes: int) -> bytes:
    return struct.pack(">BBBBI", 0, 0, 8, 1, len(classes)) + bytes(classes)


def contents(**changed: bytes) -> dict[str, bytes]:
    files = {
        "train_images": images(3),
        "train_labels": labels(9, 0, 4),
        "test_images": images(2, first=5),
        "test_labels": labels(1, 1),
    }
    return dict(zip(NAMES, (files | changed).values(), strict=True))


def write(directory: Path, files: dict[str, bytes]) -> tuple[Path, ...]:
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return tuple(directory / name for name in files)


def read(directory: Path, **changed: bytes) -> Splits:
    return read_idx(write(directory, contents(**changed)), CLASSES)


def assert_as_written(split: ArraySplit, n: int, first: int, label: list[int]) -> None:
    assert (split.image.shape, split.image.dtype) == ((n, 3, 2, 1), np.uint8)
    assert split.label.dtype == np.int32
    assert split.label.tolist() == label
    for (i, row, column, _), pixel in np.ndenumerate(split.image):
        assert pixel == 10 * (first + i) + 2 * row + column


@pytest.mark.parametrize("packed", [(), (0, 1, 2, 3), (0, 3)], ids=["plain", "gzip", "mixed"])
def test_written_pixels_and_labels_are_read(packed: tuple[int, ...], tmp_path: Path) -> None:
    files = {
        name + ".gz" * (i in packed): gzip.compress(content) if i in packed else content
        for i, (name, content) in enumerate(contents().items())
    }
    train, test, class_names = read_idx(write(tmp_path, files), CLASSES)
    assert_as_written(train, 3, 0, [9, 0, 4])
    assert_as_written(test, 2, 5, [1, 1])
    assert class_names == CLASSES


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train_images": b""}, "train-images.* starts with nothing; wanted .*00 00 08 03"),
        ({"train_images": labels(1)}, "train-images.* starts with 00 00 08 01; wanted"),
        ({"test_labels": images(1)}, "t10k-labels.* starts with 00 00 08 03; wanted .*00 00 08 01"),
        ({"test_images": images(2)[:4]}, r"t10k-images.* has 4 bytes \(unpacked\); wanted 16"),
        (
            {"test_images": images(2)[:-1]},
            r".*has 27 bytes \(unpacked\); wanted 28, .*says 2 x 3 x 2",
        ),
        ({"test_images": images(2) + b"x"}, r".*has 29 bytes \(unpacked\); wanted 28"),
        ({"train_labels": labels(9, 0)}, ".*has 3 images and .*train-labels.* 2 labels; wanted"),
        (
            {"train_labels": labels(9, 10, 200)},
            "train-labels.* has 2 labels outside the 10 classes, first label 10 of image 1; "
            "wanted 0 to 9",
        ),
    ],
)
def test_damaged_or_swapped_file_is_refused(
    changed: dict[str, bytes], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path))}/{message}.*{GET_AGAIN}"):
        read(tmp_path, **changed)


def damage(content: bytes) -> bytes:
    return content[:-10] + bytes([content[-10] ^ 255]) + content[-9:]


@pytest.mark.parametrize(
    "content",
    [b"", b"not gzip", gzip.compress(images(3))[:-9], gzip.compress(images(3))[:12]],
    ids=["empty", "text", "truncated", "head"],
)
def test_damaged_gzip_is_refused(content: bytes, tmp_path: Path) -> None:
    files = write(tmp_path, contents())
    packed = tmp_path / (NAMES[0] + ".gz")
    packed.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{packed} (cannot be unpacked|starts with nothing)"):
        read_idx((packed, *files[1:]), CLASSES)


def test_flipped_bits_in_gzip_are_refused(tmp_path: Path) -> None:
    files = write(tmp_path, contents())
    packed = tmp_path / (NAMES[0] + ".gz")
    packed.write_bytes(damage(gzip.compress(images(3))))
    with pytest.raises(InputError, match=rf"^{packed} cannot be unpacked .*{GET_AGAIN}"):
        read_idx((packed, *files[1:]), CLASSES)


def test_directory_and_missing_file_are_refused(tmp_path: Path) -> None:
    files = write(tmp_path, contents())
    for other, reason in ((tmp_path, "Is a directory"), (tmp_path / "x", "No such file")):
        with pytest.raises(InputError, match=rf"^{other} cannot be read: {reason}.*put the"):
            read_idx((other, *files[1:]), CLASSES)


def test_forbidden_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, contents())

    def refuse(*args: Any, **kwargs: Any) -> None:  # root may read whatever the mode says
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=rf"^{files[0]} cannot be read: Permission denied; wanted"):
        read_idx(files, CLASSES)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_real_fashion_mnist() -> None:
    train, test, _ = read_idx(tuple(DEBIAN / f"{name}.gz" for name in NAMES), CLASSES)
    assert (train.image.shape, test.image.shape) == ((60_000, 28, 28, 1), (10_000, 28, 28, 1))
    assert train.label[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert np.bincount(train.label).tolist() == [6_000] * 10
    assert np.bincount(test.label).tolist() == [1_000] * 10
    assert train.image.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert train.image.std() / 255 == pytest.approx(0.3530, abs=5e-5)
    assert train.image.mean() == pytest.approx(72.94035, abs=1e-5)
