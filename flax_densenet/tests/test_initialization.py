"""Tests of flax_densenet/network/initialization.py: the distributions, by their moments.

Bounds are five standard errors of the moment they belong to.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from flax_densenet import DenseNet, DenseNetConfig, initialize

CONFIG = DenseNetConfig(blocks=(2, 1), growth_rate=32, bottleneck=True, num_classes=100)
OPTIONS = DenseNetConfig(
    blocks=(1, 1),
    growth_rate=32,
    activation="prelu",
    order="conv-norm-act",
    groups=2,
    attention="se",
    attention_reduction=2,
)
Flat = dict[tuple[str, ...], np.ndarray]


def flat(variables: Any) -> Flat:
    return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(variables).items()}


def standardized_convolutions(arrays: Flat) -> list[np.ndarray]:
    """Each kernel [H, W, I, O] divided by the deviation it should have, sqrt(2 / (H W O))."""
    kernels = [array.astype(np.float64) for array in arrays.values() if array.ndim == 4]
    assert len(kernels) == 1 + 3 * 2 + 1  # stem, three bottleneck layers, transition
    return [
        (kernel / math.sqrt(2 / (kernel.shape[0] * kernel.shape[1] * kernel.shape[3]))).ravel()
        for kernel in kernels
    ]


@pytest.fixture(scope="module", params=["initialize", "model.init"])
def arrays(request: pytest.FixtureRequest) -> Flat:
    key = jax.random.key(3)
    if request.param == "initialize":
        return flat(initialize(CONFIG, key))
    init = jax.jit(functools.partial(DenseNet(CONFIG).init, train=False))
    return flat(init(key, jnp.zeros((1, 2, 2, 3))))


def test_convolutions_have_the_authors_deviation(arrays: Flat) -> None:
    for z in standardized_convolutions(arrays):
        assert abs(z.mean()) < 5 / math.sqrt(z.size)
        assert abs(z.std() - 1) < 5 / math.sqrt(2 * z.size)


def test_convolutions_are_normal_and_not_truncated(arrays: Flat) -> None:
    z = np.abs(np.concatenate(standardized_convolutions(arrays)))
    for bound, share in ((1, 0.31731), (2, 0.04550), (3, 0.00270)):  # of a normal distribution
        error = math.sqrt(share * (1 - share) / z.size)
        assert abs(np.mean(z > bound) - share) < 5 * error
    assert z.max() > 4


def test_classifier_is_uniform_with_zero_bias(arrays: Flat) -> None:
    kernel = arrays["params", "classifier", "kernel"].astype(np.float64)
    inputs = 64 + 2 * 32 + 32
    assert kernel.shape == (inputs, 100)
    bound = 1 / math.sqrt(inputs)
    assert 0.99 * bound < np.abs(kernel).max() <= bound * (1 + 1e-6)
    assert abs(kernel.mean()) < 5 * bound / math.sqrt(3 * kernel.size)
    assert kernel.var() == pytest.approx(1 / (3 * inputs), rel=5 * math.sqrt(0.8 / kernel.size))
    np.testing.assert_array_equal(arrays["params", "classifier", "bias"], np.zeros(100))


@pytest.mark.parametrize(("name", "value"), [("scale", 1), ("bias", 0), ("mean", 0), ("var", 1)])
def test_normalizations_start_neutral(arrays: Flat, name: str, value: float) -> None:
    found = [array for path, array in arrays.items() if path[-1] == name]
    assert len(found) == 3 * 2 + 1 + 1 + (name == "bias")  # the classifier's bias is one more
    for array in found:
        np.testing.assert_array_equal(array, np.full(array.shape, value))


def test_layers_are_drawn_independently(arrays: Flat) -> None:
    size = min(z.size for z in standardized_convolutions(arrays))
    classifier = arrays["params", "classifier", "kernel"].ravel()
    rows = [z[:size] for z in (*standardized_convolutions(arrays), classifier)]
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlation).max() < 5 / math.sqrt(size)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        DenseNetConfig(depth=7, growth_rate=2, dtype="bfloat16"),
        DenseNetConfig(blocks=(1, 2), growth_rate=2, stem="imagenet", in_channels=4),
        OPTIONS,
    ],
)
def test_initialize_builds_the_tree_of_the_model(
    config: DenseNetConfig, model_shapes: Callable[[DenseNetConfig], dict[str, Any]]
) -> None:
    def described(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    variables = initialize(config, jax.random.key(0))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables))
    assert described(variables) == described(model_shapes(config))


def test_slopes_and_attention_start_as_in_pytorch() -> None:
    arrays = flat(initialize(OPTIONS, jax.random.key(0)))
    slopes = [array for path, array in arrays.items() if path[-1] == "slope"]
    assert len(slopes) == 4  # stem, two layers, transition
    assert all(slope == 0.25 for slope in slopes)
    kernels = {
        path: a for path, a in arrays.items() if path[-1] == "kernel" and "attention" in path
    }
    bounds = {"fc1": 1 / math.sqrt(32), "fc2": 1 / math.sqrt(16)}
    assert len(kernels) == 2 * 2
    for path, kernel in kernels.items():
        assert 0.9 * bounds[path[-2]] < np.abs(kernel).max() <= bounds[path[-2]]
        assert abs(kernel.mean()) < 5 * bounds[path[-2]] / math.sqrt(3 * kernel.size)
        np.testing.assert_array_equal(arrays[*path[:-1], "bias"], 0)
    first, second = (kernel for path, kernel in kernels.items() if "fc1" in path)
    assert np.all(first != second)
    groups = arrays["params", "denseblock1", "denselayer1", "conv1", "kernel"]
    assert groups.shape == (3, 3, 16 // 2, 32)
    deviation = math.sqrt(2 / (3 * 3 * 32))  # whatever the groups, as in PyTorch
    assert groups.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * groups.size))


def test_initialize_in_float64_draws_float64() -> None:
    with jax.enable_x64(True):
        config = DenseNetConfig(depth=7, growth_rate=2, dtype="float64")
        arrays = flat(initialize(config, jax.random.key(0)))
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float64)}
    kernel = arrays["params", "conv0", "kernel"]
    assert np.any(kernel != kernel.astype(np.float32))


def test_keys_decide_the_values() -> None:
    config = DenseNetConfig(depth=7, growth_rate=2)
    first, same, other = (flat(initialize(config, jax.random.key(seed))) for seed in (5, 5, 6))
    for path, array in first.items():
        np.testing.assert_array_equal(array, same[path])
        if path[-1] == "kernel":
            assert np.all(array != other[path])
