"""Tests of flax_densenet/training/augment.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_densenet.data import ArraySplit, Dataset
from flax_densenet.training import Preprocess
from flax_densenet.training.config import Augment

SIZE = 10
N = 512


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (N, SIZE, SIZE, 2), np.uint8)


def identity(*, augment: Augment) -> Preprocess:
    return Preprocess(mean=(0.0, 0.0), std=(1.0, 1.0), augment=augment)


augmentation = jax.jit(functools.partial(identity(augment="shift"), train=True))


@pytest.fixture(scope="module")
def augmented(images: np.ndarray) -> np.ndarray:
    return np.asarray(augmentation(images, jax.random.key(0)))


@pytest.fixture(scope="module")
def choices(images: np.ndarray, augmented: np.ndarray) -> np.ndarray:
    """(mirrored, rows, columns) of each image, found among all 2 x 81 that are allowed."""
    found = np.full((N, 3), -1)
    for mirrored in (0, 1):
        source = images[:, :, ::-1] if mirrored else images
        padded = np.pad(source, ((0, 0), (4, 4), (4, 4), (0, 0)))
        for row in range(9):
            for column in range(9):
                candidate = padded[:, row : row + SIZE, column : column + SIZE]
                same = np.all(candidate == augmented, axis=(1, 2, 3))
                assert not np.any(same & (found[:, 0] >= 0))  # no image has two explanations
                found[same] = mirrored, row - 4, column - 4
    return found


def test_normalized_training_images_have_mean_0_and_deviation_1(images: np.ndarray) -> None:
    split = ArraySplit(images, np.zeros(N, np.int32))
    data = Dataset(name="mine", train=split, test=split, class_names=("a",))
    mean, std = data.channel_statistics()
    x = Preprocess(mean, std, augment="none")(jnp.asarray(images), jax.random.key(0), train=True)
    assert x.dtype == jnp.float32
    values = np.asarray(x, np.float64)
    np.testing.assert_allclose(values.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(values.std((0, 1, 2)), 1, atol=1e-5)
    expected = (images[3, 1, 2].astype(np.float64) - mean) / std
    np.testing.assert_allclose(x[3, 1, 2], expected, rtol=1e-5)


@pytest.mark.parametrize(("augment", "train"), [("shift", False), ("crop", False), ("none", True)])
def test_images_stay_in_place_without_augmentation(
    images: np.ndarray, augment: Augment, train: bool
) -> None:
    x = identity(augment=augment)(jnp.asarray(images), jax.random.key(0), train=train)
    np.testing.assert_array_equal(x, images)


def test_every_augmented_image_is_a_mirrored_and_shifted_one(choices: np.ndarray) -> None:
    assert np.all(choices[:, 0] >= 0)


def test_padding_is_the_mean(images: np.ndarray) -> None:
    flat = jnp.full((64, SIZE, SIZE, 2), 50, jnp.uint8)
    process = Preprocess(mean=(50.0, 60.0), std=(2.0, 5.0), augment="shift")
    x = process(flat, jax.random.key(1), train=True)
    np.testing.assert_array_equal(x[..., 0], 0)  # padded or not, it is the mean
    assert set(np.unique(x[..., 1])) == {-2.0, 0.0}  # (50 - 60) / 5 inside, the mean outside


def test_half_are_mirrored_and_all_shifts_are_equally_likely(choices: np.ndarray) -> None:
    mirrored, *shifts = choices.T
    assert np.mean(mirrored) == pytest.approx(0.5, abs=5 * 0.5 / N**0.5)
    for shift in shifts:
        values, counts = np.unique(shift, return_counts=True)
        assert values.tolist() == [-4, -3, -2, -1, 0, 1, 2, 3, 4]
        np.testing.assert_allclose(counts / N, 1 / 9, atol=5 * (8 / 81 / N) ** 0.5)


def test_choices_of_an_image_are_independent(choices: np.ndarray) -> None:
    correlation = np.corrcoef(choices.T) - np.eye(3)
    assert np.abs(correlation).max() < 5 / N**0.5


def test_key_decides_the_augmentation(images: np.ndarray, augmented: np.ndarray) -> None:
    same = np.asarray(augmentation(images, jax.random.key(0)))
    other = np.asarray(augmentation(images, jax.random.key(1)))
    np.testing.assert_array_equal(same, augmented)
    assert np.mean(np.all(other == augmented, axis=(1, 2, 3))) < 0.05  # 1 in 162 by chance
