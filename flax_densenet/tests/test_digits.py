"""Tests of flax_densenet/data/readers/digits.py against scikit-learn's own arrays."""

import numpy as np
import pytest
from sklearn import datasets

from flax_densenet.data import Dataset, Split, describe_dataset, load_dataset
from flax_densenet.data.dataset import Examples


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def test_description_fits_the_data(digits: Dataset) -> None:
    assert describe_dataset("digits") == (10, 1)
    assert digits.image_shape == (8, 8, 1)
    assert digits.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


def whole(split: Split) -> Examples:
    return next(split.read([np.arange(len(split))]))


def test_split_is_1442_and_355_images(digits: Dataset) -> None:
    assert (len(digits.train), len(digits.test)) == (1442, 355)
    train, test = whole(digits.train), whole(digits.test)
    assert train.image.dtype == test.image.dtype == np.uint8
    assert train.label.dtype == test.label.dtype == np.int32
    assert train.image.max() == 255


def test_each_fifth_image_of_a_class_is_a_test_image_and_none_is_lost(digits: Dataset) -> None:
    bunch = datasets.load_digits()
    gray = np.rint(bunch.images / 16 * 255)[..., None]
    for digit in range(10):
        images = gray[bunch.target == digit]
        fifths = [i for i in range(len(images)) if i % 5 == 4]
        others = [i for i in range(len(images)) if i % 5 != 4]
        for split, chosen in ((whole(digits.test), fifths), (whole(digits.train), others)):
            np.testing.assert_array_equal(split.image[split.label == digit], images[chosen])


def test_statistics_are_those_of_the_training_images(digits: Dataset) -> None:
    (mean,), (std,) = digits.channel_statistics()
    pixels = whole(digits.train).image.astype(np.float64)
    assert mean == pytest.approx(pixels.sum() / pixels.size)
    assert std == pytest.approx(np.sqrt(np.sum((pixels - mean) ** 2) / pixels.size))
