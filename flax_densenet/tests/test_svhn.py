"""Tests of flax_densenet/data/readers/svhn.py on files that are written here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import io

from flax_densenet import InputError
from flax_densenet.data import ArraySplit
from flax_densenet.data.readers.svhn import read_svhn

DIGITS = tuple("0123456789")


def pixels(first: int, n: int) -> np.ndarray:
    """Images as the authors' files have them, [32, 32, 3, N]."""
    row, column, channel, i = np.indices((32, 32, 3, n))
    return (((first + i) * 83 + channel * 71 + row * 3 + column * 37) % 256).astype(np.uint8)


def write(file: Path, first: int, label: list[int], **changed: Any) -> Path:
    n = len(label)
    variables = {"X": pixels(first, n), "y": np.array(label, float).reshape(n, 1)} | changed
    kept = {name: value for name, value in variables.items() if value is not None}
    io.savemat(file, kept, do_compression=True)
    return file


def assert_as_written(split: ArraySplit, first: int, label: list[int]) -> None:
    assert (split.image.shape, split.image.dtype) == ((len(label), 32, 32, 3), np.uint8)
    assert split.label.dtype == np.int32
    assert split.label.tolist() == label
    for i, row, column, channel in ((0, 0, 1, 2), (1, 31, 0, 1), (1, 7, 9, 0)):
        expected = ((first + i) * 83 + channel * 71 + row * 3 + column * 37) % 256
        assert split.image[i, row, column, channel] == expected
    np.testing.assert_array_equal(split.image, pixels(first, len(label)).transpose(3, 0, 1, 2))


def test_written_pixels_and_labels_are_read_and_10_means_0(tmp_path: Path) -> None:
    train_file = write(tmp_path / "train_32x32.mat", 0, [1, 10, 3])
    test_file = write(tmp_path / "test_32x32.mat", 3, [10, 9])
    train, test, class_names = read_svhn((train_file, test_file), DIGITS)
    assert_as_written(train, 0, [1, 0, 3])
    assert_as_written(test, 3, [0, 9])
    assert class_names == DIGITS


def test_extra_images_follow_the_training_images(tmp_path: Path) -> None:
    files = (
        write(tmp_path / "train_32x32.mat", 0, [1, 10, 3]),
        write(tmp_path / "extra_32x32.mat", 3, [7, 7]),
        write(tmp_path / "test_32x32.mat", 5, [2, 5], y=np.array([[2], [5]], np.uint8)),
    )
    train, test, _ = read_svhn(files, DIGITS)
    assert_as_written(train, 0, [1, 0, 3, 7, 7])
    assert_as_written(test, 5, [2, 5])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"X": None}, "has no variable X; wanted X and y"),
        ({"y": None}, "has no variable y"),
        ({"X": pixels(0, 2).astype(float)}, r"has X float64 \[32, 32, 3, 2\]; wanted uint8 \[32, "),
        ({"X": pixels(0, 2)[:16]}, r"has X uint8 \[16, 32, 3, 2\]; wanted uint8 \[32, 32, 3, N\]"),
        ({"X": "text"}, r"has X <U4 \[1\]; wanted"),
        ({"y": np.ones((3, 1))}, r"has y float64 \[3, 1\]; wanted integers \[2, 1\]"),
        ({"y": np.array([["a"], ["b"]], object)}, r"has y object \[2, 1\]; wanted integers"),
        (
            {"y": np.array([[0], [11]])},
            "has 2 labels that are no digits, first label 0 of image 0; wanted 1 to 9, and 10 for",
        ),
        ({"y": np.array([[1.0], [np.nan]])}, "has 1 labels that are no .* label nan of image 1;"),
    ],
)
def test_wrong_variables_are_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = write(tmp_path / "train_32x32.mat", 0, [1, 2], **changed)
    with pytest.raises(InputError, match=f"^{file} {message}.*; get the file again$"):
        read_svhn((file, file), DIGITS)


def damage(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "train_32x32.mat", 0, [1, 2])
    whole = file.read_bytes()
    contents = {
        b"": "another head than MATLAB 5.0",
        b"<html>not found</html>": "another head than MATLAB 5.0",
        b"MATLAB 7.3 MAT-file" + whole[19:]: "another head than MATLAB 5.0",
        whole[:131]: "unpack requires a buffer of 8 bytes",
        whole[: len(whole) // 2]: "it ends in the middle of a part",
        whole[:-1]: "it ends in the middle of a part",
        damage(whole, 128): "a part of the kind 240, not 15",
        damage(whole, 140): "",
        damage(whole, len(whole) // 2): "",
        damage(whole, len(whole) - 1): "incorrect data check",
    }
    for content, message in contents.items():
        file.write_bytes(content)
        with pytest.raises(InputError, match=rf"^{file} cannot be read \(.*{message}.*Matlab 5"):
            read_svhn((file, file), DIGITS)


def test_uncompressed_file_is_refused(tmp_path: Path) -> None:
    # scipy crashes on uncompressed files with a damaged type, here that of the pixels.
    file = tmp_path / "train_32x32.mat"
    io.savemat(file, {"X": pixels(0, 2), "y": np.ones((2, 1))})
    file.write_bytes(damage(file.read_bytes(), 185))
    with pytest.raises(InputError, match=r"cannot be read \(a part of the kind 14, not 15\)"):
        read_svhn((file, file), DIGITS)


def test_directory_and_forbidden_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=f"^{tmp_path} cannot be read: Is a directory; wanted"):
        read_svhn((tmp_path, tmp_path), DIGITS)
    file = write(tmp_path / "train_32x32.mat", 0, [1, 2])

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=f"^{file} cannot be read: Permission denied; wanted"):
        read_svhn((file, file), DIGITS)
