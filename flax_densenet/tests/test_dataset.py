"""Tests of flax_densenet/data/dataset.py and the names in data/load.py."""

from typing import Any

import numpy as np
import pytest

from flax_densenet import InputError
from flax_densenet.cli import learning_curves, study, train
from flax_densenet.cli.flags import ImageFlags
from flax_densenet.data import ArraySplit, Dataset, describe_dataset, load_dataset
from flax_densenet.data.dataset import check_scale
from flax_densenet.weights.statement import given_statistics


def split(n: int = 4, size: tuple[int, ...] = (2, 3, 2), **fields: Any) -> ArraySplit:
    image = np.random.default_rng(n).integers(0, 256, (n, *size), np.uint8)
    arrays = {"image": image, "label": np.arange(n, dtype=np.int32) % 3, **fields}
    return ArraySplit(**arrays)


def dataset(train: ArraySplit, test: ArraySplit) -> Dataset:
    return Dataset(name="mine", train=train, test=test, class_names=("a", "b", "c"))


def test_properties_describe_the_images() -> None:
    data = dataset(split(5), split(4))
    assert (len(data.train), len(data.test), data.num_classes) == (5, 4, 3)
    assert data.image_shape == (2, 3, 2)


def test_channel_statistics_are_those_of_the_training_pixels() -> None:
    # 5 million pixels around 200: a float32 sum would be off.
    image = np.random.default_rng(0).integers(190, 210, (50, 320, 320, 2), np.uint8)
    label = np.zeros(50, np.int32)
    mean, std = dataset(
        ArraySplit(image, label), ArraySplit(image[:1], label[:1])
    ).channel_statistics()
    for channel in (0, 1):
        values = image[..., channel].ravel().astype(np.float64)
        expected = values.sum() / values.size
        assert mean[channel] == pytest.approx(expected, rel=1e-12)
        deviation = (np.sum((values - expected) ** 2) / values.size) ** 0.5
        assert std[channel] == pytest.approx(deviation, rel=1e-9)


def test_constant_channel_is_refused() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 2, 3, 2), np.uint8)
    image[..., 1] = 7
    data = dataset(split(image=image), split())
    with pytest.raises(InputError, match="data set mine: channel 1 has the same value"):
        data.channel_statistics()


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (
            split(image=np.zeros((4, 2, 3, 2), np.float32)),
            split(),
            r"mine, split train: images are float32 of shape \(4, 2, 3, 2\); wanted uint8",
        ),
        (
            split(),
            split(image=np.zeros((4, 2, 3), np.uint8)),
            r"mine, split test: images are uint8 of shape \(4, 2, 3\); wanted uint8 \[N, H, W, C\]",
        ),
        (
            split(label=np.zeros(3, np.int32)),
            split(),
            "split train: 4 images and 3 labels; wanted the same number",
        ),
        (split(), split(0), "split test: 0 images and 0 labels; .*at least 1"),
        (
            split(label=np.array([0, 3, 1, 5], np.int32)),
            split(),
            "split train: 2 labels are outside the 3 classes, first label 3 of image 1; "
            "wanted 0 to 2",
        ),
        (
            split(),
            split(label=np.array([0, 1, 1, -1], np.int32)),
            "split test: 1 labels are outside the 3 classes, first label -1 of image 3",
        ),
        (
            split(),
            split(size=(3, 3, 2)),
            r"train images are \(2, 3, 2\) and test images \(3, 3, 2\)",
        ),
    ],
)
def test_unusable_arrays_are_refused(train: ArraySplit, test: ArraySplit, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset(train, test)


@pytest.mark.parametrize("read", [load_dataset, describe_dataset])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar", "; perhaps you meant cifar10"),
        ("Digits", "; perhaps you meant digits"),
        ("fashion-mnist", "; perhaps you meant fashion_mnist"),
        ("tfds:", ""),
        ("", ""),
    ],
)
def test_unknown_name_is_refused(read: Any, name: str, hint: str) -> None:
    message = (
        rf"^dataset \(='{name}'\) must be digits, cifar10, cifar100, svhn, svhn_without_extra, "
        "mnist, fashion_mnist, imagenet2012, imagenette, folder:<dir> or tfds:<name>, such as "
        f"tfds:cifar10{hint}$"
    )
    with pytest.raises(InputError, match=message):
        read(name, None)


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.5,), (0.25,)), ((0.0, 0.0), (0.5, 0.5)), ((0.485,), None), (None, (1.0,))],
)
def test_numbers_of_pixels_from_0_to_1_are_refused(mean: Any, std: Any) -> None:
    with pytest.raises(InputError, match=r"are those of pixels from 0 to 1, .* 255 times as much"):
        check_scale(mean, std)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        (None, None),
        ((0.0, 0.0), (1.0, 1.0)),
        ((127.5,), (0.125,)),
        ((0.5,), (64.0,)),
        ((-0.5,), (0.5,)),
    ],
)
def test_other_numbers_may_be_meant(mean: Any, std: Any) -> None:
    check_scale(mean, std)


def test_every_command_tells_the_right_numbers() -> None:
    words = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
    right = r"give 255 times as much: mean 123.675,116.28,103.53 and std 58.395,57.12,57.375$"
    for parse, first in (
        (train.parse, []),
        (learning_curves.parse, []),
        (study.parse, ["gradient_flow"]),
    ):
        with pytest.raises(InputError, match=right):
            parse([*first, *words], "flax-densenet")
    with pytest.raises(InputError, match=right):
        given_statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 3)
    with pytest.raises(InputError, match=right):
        ImageFlags(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
