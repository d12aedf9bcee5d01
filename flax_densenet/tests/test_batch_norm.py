"""Tests of flax_densenet/network/batch_norm.py against the formula written out in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_densenet import BatchNorm, InputError

SHAPE = (2, 4, 4, 3)  # n = 32 values per channel
Arrays = dict[str, np.ndarray]


def random_variables(dtype: Any = np.float32) -> dict[str, Any]:
    draw = np.random.default_rng(1)
    return {
        "params": {
            "scale": draw.normal(1, 0.5, 3).astype(dtype),
            "bias": draw.normal(0, 1, 3).astype(dtype),
        },
        "batch_stats": {
            "mean": draw.normal(0, 1, 3).astype(dtype),
            "var": draw.uniform(0.5, 2, 3).astype(dtype),
        },
    }


def formula(
    x: np.ndarray, variables: dict[str, Arrays], momentum: float, epsilon: float, train: bool
) -> tuple[np.ndarray, Arrays]:
    """torch.nn.BatchNorm2d in float64: biased variance to normalize, unbiased to store."""
    x = x.astype(np.float64)
    running = {key: value.astype(np.float64) for key, value in variables["batch_stats"].items()}
    n = x.shape[0] * x.shape[1] * x.shape[2]
    mean = x.sum((0, 1, 2)) / n
    squares = ((x - mean) ** 2).sum((0, 1, 2))
    used_mean, used_var = (mean, squares / n) if train else (running["mean"], running["var"])
    y = (x - used_mean) / np.sqrt(used_var + epsilon)
    y = variables["params"]["scale"] * y + variables["params"]["bias"]
    if train:
        running["mean"] = (1 - momentum) * running["mean"] + momentum * mean
        running["var"] = (1 - momentum) * running["var"] + momentum * squares / (n - 1)
    return y, running


def apply(layer: BatchNorm, variables: Any, x: Any, train: bool) -> tuple[jax.Array, Any]:
    y, updates = layer.apply(variables, x, train=train, mutable=["batch_stats"])
    return y, updates["batch_stats"]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("momentum", "epsilon"), [(0.1, 1e-5), (0.01, 1.001e-5), (1.0, 0.5)])
def test_result_and_statistics_follow_the_formula(
    momentum: float, epsilon: float, train: bool
) -> None:
    # A small spread makes epsilon count.
    x = np.random.default_rng(0).normal(0.5, 0.01, SHAPE).astype(np.float32)
    variables = random_variables()
    y, statistics = apply(BatchNorm(momentum, epsilon), variables, x, train)
    expected, running = formula(x, variables, momentum, epsilon, train)
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(statistics[name], running[name], rtol=1e-6)


def test_stored_variance_is_the_unbiased_one() -> None:
    x = np.random.default_rng(2).normal(3, 2, SHAPE).astype(np.float32)
    variables = BatchNorm().init(jax.random.key(0), x, train=False)
    _, statistics = apply(BatchNorm(), variables, x, train=True)
    biased = x.astype(np.float64).var((0, 1, 2))
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * biased * 32 / 31, rtol=1e-6)


def test_two_updates_compose() -> None:
    x1, x2 = np.random.default_rng(3).normal(1, 2, (2, *SHAPE)).astype(np.float32)
    variables = random_variables()
    _, once = apply(BatchNorm(), variables, x1, train=True)
    _, twice = apply(BatchNorm(), {**variables, "batch_stats": once}, x2, train=True)
    _, expected = formula(x1, variables, 0.1, 1e-5, train=True)
    _, expected = formula(x2, {**variables, "batch_stats": expected}, 0.1, 1e-5, train=True)
    for name in ("mean", "var"):
        np.testing.assert_allclose(twice[name], expected[name], rtol=1e-6)


def test_bfloat16_input_keeps_float32_statistics() -> None:
    # bfloat16 resolves 1000 to 4: its own statistics would be wrong in the third digit.
    x = jnp.asarray(np.random.default_rng(4).normal(1000, 30, SHAPE), jnp.bfloat16)
    exact = np.asarray(x.astype(jnp.float32))
    variables = random_variables()
    y, statistics = apply(BatchNorm(dtype=jnp.bfloat16), variables, x, train=True)
    expected, running = formula(exact, variables, 0.1, 1e-5, train=True)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=2**-8, atol=1e-4)
    for name in ("mean", "var"):
        assert statistics[name].dtype == jnp.float32
        np.testing.assert_allclose(statistics[name], running[name], rtol=1e-5)


def test_float64_computes_in_float64() -> None:
    x = np.random.default_rng(5).normal(1000, 1, SHAPE)
    with jax.enable_x64(True):
        variables = random_variables(np.float64)
        y, statistics = apply(BatchNorm(dtype=jnp.float64), variables, x, train=True)
        expected, running = formula(x, variables, 0.1, 1e-5, train=True)
        assert y.dtype == statistics["var"].dtype == jnp.float64
        np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(statistics["var"], running["var"], rtol=1e-12)


def test_initialization_leaves_the_statistics_alone() -> None:
    x = np.full(SHAPE, 7, np.float32)
    variables = BatchNorm().init(jax.random.key(0), x, train=True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], [0, 0, 0])
    np.testing.assert_array_equal(variables["batch_stats"]["var"], [1, 1, 1])
    np.testing.assert_array_equal(variables["params"]["scale"], [1, 1, 1])
    np.testing.assert_array_equal(variables["params"]["bias"], [0, 0, 0])


def test_training_on_one_value_is_refused_and_evaluating_it_is_not() -> None:
    x = np.full((1, 1, 1, 3), 5, np.float32)
    variables = random_variables()
    with pytest.raises(InputError, match="more than 1 value per channel, got a batch of 1 image"):
        apply(BatchNorm(), variables, x, train=True)
    y, _ = apply(BatchNorm(), variables, x, train=False)
    expected, _ = formula(x, variables, 0.1, 1e-5, train=False)
    np.testing.assert_allclose(y, expected, rtol=1e-5)
