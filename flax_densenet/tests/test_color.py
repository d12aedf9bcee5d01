"""Tests of flax_densenet/training/augment.py, with the formulas written out."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_densenet.training import Preprocess
from flax_densenet.training.augment import (
    change_colors,
    scale_brightness,
    scale_contrast,
    scale_saturation,
)

IMAGE = np.array([[[100.0, 50.0, 200.0], [10.0, 20.0, 30.0]]])
GRAYS = [0.299 * 100 + 0.587 * 50 + 0.114 * 200, 0.299 * 10 + 0.587 * 20 + 0.114 * 30]


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
def test_each_change_is_a_blend_with_black_mean_gray_or_grayscale(factor: float) -> None:
    x, strength = jnp.asarray(IMAGE), jnp.asarray(factor)
    mean_gray = sum(GRAYS) / 2
    for change, target in (
        (scale_brightness, np.zeros_like(IMAGE)),
        (scale_contrast, np.full_like(IMAGE, mean_gray)),
        (scale_saturation, np.asarray(GRAYS)[None, :, None] * np.ones(3)),
    ):
        right = factor * IMAGE + (1 - factor) * target
        np.testing.assert_allclose(change(x, strength), right, rtol=1e-5)


@pytest.fixture(scope="module")
def changed_black() -> np.ndarray:
    """Black stays black under all blends, so that only the lighting shows."""
    keys = jax.random.split(jax.random.key(0), 4000)
    black = jnp.zeros((1, 1, 3))
    return np.asarray(jax.vmap(change_colors, (None, 0))(black, keys))[:, 0, 0]


def test_lighting_has_the_covariance_of_the_principal_components(changed_black: np.ndarray) -> None:
    vectors = np.array(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    values = np.array([0.2175, 0.0188, 0.0045])
    right = vectors @ np.diag((255 * 0.1 * values) ** 2) @ vectors.T
    covariance = np.cov(changed_black.T)
    # The deviation of an entry of a covariance from n samples is at most sqrt(2 / n) of its scale.
    np.testing.assert_allclose(covariance, right, atol=5 * (2 / 4000) ** 0.5 * right.max())
    np.testing.assert_allclose(changed_black.mean(0), 0, atol=5 * (right.max() / 4000) ** 0.5)


def test_brightness_of_white_is_uniform_within_forty_percent() -> None:
    # White has no contrast and no saturation to change.
    white = jnp.full((1, 1, 3), 1e6)  # so bright that the lighting cannot be seen
    keys = jax.random.split(jax.random.key(1), 4000)
    factors = np.asarray(jax.vmap(change_colors, (None, 0))(white, keys))[:, 0, 0, 0] / 1e6
    assert 0.6 - 1e-4 <= factors.min() < 0.61 and 1.39 < factors.max() <= 1.4 + 1e-4
    assert factors.mean() == pytest.approx(1, abs=5 * 0.8 / (12 * 4000) ** 0.5)


def test_order_of_the_changes_makes_no_difference() -> None:
    changes = ((scale_brightness, 0.7), (scale_contrast, 1.3), (scale_saturation, 0.8))
    results = []
    for order in itertools.permutations(changes):
        x = jnp.asarray(IMAGE)
        for change, factor in order:
            x = change(x, jnp.asarray(factor))
        results.append(x)
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=0, atol=1e-3)  # of 255, in float32


def test_colors_change_in_training_alone() -> None:
    process = Preprocess((0.0,) * 3, (1.0,) * 3, "crop_color")
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8))
    key = jax.random.key(0)
    np.testing.assert_array_equal(process(image, key, train=False), image)
    trained = np.asarray(process(image, key, train=True))
    unchanged = [
        np.array_equal(new, old) or np.array_equal(new, old[:, ::-1])
        for new, old in zip(trained, np.asarray(image), strict=True)
    ]
    assert not any(unchanged)
