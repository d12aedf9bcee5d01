"""Tests of flax_densenet/data/tfds.py on real data sets that are written here."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flax_densenet import InputError
from flax_densenet.data import describe_dataset, load_dataset
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.load import FileReading
from flax_densenet.tests.prepared import Examples, examples, prepare

BOTH = pytest.mark.parametrize("read", [load_dataset, describe_dataset])


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every attempt to reach the network, all of which fail."""
    attempts: list[Any] = []

    def refuse(*args: Any, **kwargs: Any) -> None:
        attempts.append(args)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return attempts


def assert_same_examples(split: Any, written: Examples) -> None:
    assert split.image.dtype == np.uint8
    assert split.label.dtype == np.int32
    pairs = zip(split.image, split.label, strict=True)
    got = sorted((image.tobytes(), int(label)) for image, label in pairs)
    assert got == sorted((pixels.tobytes(), label) for pixels, label in written)


def test_written_pixels_and_labels_are_read(tmp_path: Path, connections: list[Any]) -> None:
    train, test, validation = examples(7), examples(4, seed=1), examples(3, seed=2)
    prepare(tmp_path, train=train, test=test, validation=validation)
    assert describe_dataset("tfds:tiny_images", str(tmp_path)) == (3, 3)
    data = load_dataset("tfds:tiny_images", str(tmp_path))
    assert (data.name, data.class_names) == ("tfds:tiny_images", ("ant", "bee", "cat"))
    assert_same_examples(data.train, train)
    assert_same_examples(data.test, test)
    assert data.validation is not None
    assert_same_examples(data.validation, validation)
    reading = FileReading(ImageFormat(8))
    streamed = load_dataset("tfds:tiny_images", str(tmp_path), reading)
    assert streamed.validation is not None
    assert [len(streamed.validation), len(streamed.test)] == [3, 4]
    assert connections == []


def test_validation_takes_the_place_of_a_missing_test_split(tmp_path: Path) -> None:
    validation = examples(3, seed=2)
    prepare(tmp_path, train=examples(4), validation=validation)
    assert_same_examples(load_dataset("tfds:tiny_images", str(tmp_path)).test, validation)


@pytest.mark.parametrize("reading", [None, FileReading(ImageFormat(8))])
def test_test_split_without_labels_does_not_hide_the_validation_split(
    reading: FileReading | None, tmp_path: Path
) -> None:
    validation = examples(3, seed=2)
    unlabelled = [(pixels, -1) for pixels, _ in examples(4, seed=1)]
    prepare(tmp_path, train=examples(4), test=unlabelled, validation=validation)
    data = load_dataset("tfds:tiny_images", str(tmp_path), reading)
    assert (len(data.test), data.validation) == (3, None)
    assert data.notes == ("the split test is left out: it has no labels",)


@pytest.mark.parametrize("data_dir", [None, "~/tensorflow_datasets"])
def test_home_directory_is_found(
    data_dir: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    prepare(tmp_path / "tensorflow_datasets", train=examples(4), test=examples(3))
    assert len(load_dataset("tfds:tiny_images:1.0.0", data_dir).train) == 4


@BOTH
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10", "nothing is prepared in {}/cifar10/.*--data_dir.*--dataset digits"),
        ("tiny_imagse", "knows no such name and {} holds no prepared.*check the spelling"),
        ("cifar10:9.9.9", "cifar10 cannot be loaded at version 9.9.9"),
        ("a b", ""),
        ("coco", ""),  # the code of some data sets needs TensorFlow
    ],
)
def test_absent_data_set_is_refused_without_the_network(
    read: Callable[..., Any], name: str, message: str, tmp_path: Path, connections: list[Any]
) -> None:
    with pytest.raises(InputError, match=f"^dataset tfds:{name}: .*{message.format(tmp_path)}"):
        read(f"tfds:{name}", str(tmp_path))
    assert connections == []


@BOTH
@pytest.mark.parametrize("missing", ["train", "test"])
def test_missing_split_is_refused(read: Callable[..., Any], missing: str, tmp_path: Path) -> None:
    present = "test" if missing == "train" else "train"
    splits: Any = {"extra": examples(3), present: examples(3)}
    prepare(tmp_path, **splits)
    message = rf"has the splits \['extra', '{present}'\]; wanted train, and test or validation"
    with pytest.raises(InputError, match=message):
        read("tfds:tiny_images", str(tmp_path))


@BOTH
def test_other_features_are_refused(read: Callable[..., Any], tmp_path: Path) -> None:
    prepare(tmp_path, label_key="species", train=examples(3), test=examples(3))
    message = r"has the features \['image', 'species'\]; wanted an image .* class under 'label'"
    with pytest.raises(InputError, match=message):
        read("tfds:tiny_images", str(tmp_path))


def test_images_of_different_sizes_are_refused(tmp_path: Path) -> None:
    prepare(tmp_path, train=examples(3) + examples(2, height=9), test=examples(3))
    message = r"split train: images have 2 different sizes, .*\(8, 8, 3\), \(9, 8, 3\).*wanted one"
    with pytest.raises(InputError, match=message):
        load_dataset("tfds:tiny_images", str(tmp_path))


@BOTH
def test_other_file_format_is_refused(read: Callable[..., Any], tmp_path: Path) -> None:
    prepare(tmp_path, train=examples(3), test=examples(3))
    info = tmp_path / "tiny_images" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(
        InputError, match=r"tfds:tiny_images: .*prepare it again with .*array_record"
    ):
        read("tfds:tiny_images", str(tmp_path))
