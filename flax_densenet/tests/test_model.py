"""Tests of flax_densenet/network/model.py (values against PyTorch are in parity_tests/)."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_densenet import VARIANTS, DenseLayer, DenseNet, DenseNetConfig, InputError, initialize

TINY = DenseNetConfig(depth=7, growth_rate=2)


def logits_shape(config: DenseNetConfig, image: jax.Array) -> Any:
    init = functools.partial(DenseNet(config).init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), image)[0]


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (TINY, (2, 32, 32, 3)),
        (TINY, (3, 9, 7, 3)),
        (TINY, (1, 4, 4, 3)),
        (DenseNetConfig(depth=7, growth_rate=2, in_channels=1, num_classes=3), (2, 8, 8, 1)),
        (DenseNetConfig(depth=7, growth_rate=2, in_channels=4, num_classes=1), (2, 8, 8, 4)),
        (DenseNetConfig(blocks=(1, 2), growth_rate=2, stem="imagenet"), (2, 31, 64, 3)),
        (VARIANTS["densenet121"], (1, 224, 224, 3)),
    ],
)
def test_logits_have_one_row_per_image(config: DenseNetConfig, size: tuple[int, ...]) -> None:
    assert logits_shape(config, jnp.zeros(size)).shape == (size[0], config.num_classes)


@pytest.mark.parametrize(
    ("config", "image", "message"),
    [
        (TINY, np.zeros((1, 8, 8, 3), np.uint8), "dtype uint8; wanted floating"),
        (TINY, np.zeros((8, 8, 3), np.float32), r"shape \(8, 8, 3\); wanted 4 axes"),
        (TINY, np.zeros((1, 8, 8, 1), np.float32), "1 channels but in_channels is 3"),
        (TINY, np.zeros((1, 3, 8, 3), np.float32), "3x8 pixels.*at least 4x4"),
        (VARIANTS["densenet121"], np.zeros((1, 28, 28, 3), np.float32), "28x28.*at least 29x29"),
        (
            DenseNetConfig(depth=7, dtype="float64"),
            np.zeros((1, 8, 8, 3), np.float32),
            "float64 needs 64-bit JAX, which is off; .*JAX_ENABLE_X64=1",
        ),
    ],
)
def test_unsuitable_image_is_refused(
    config: DenseNetConfig, image: np.ndarray, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        DenseNet(config).init(jax.random.key(0), image, train=False)


def test_bfloat16_computes_in_bfloat16_with_float32_parameters(
    model_shapes: Callable[[DenseNetConfig], dict[str, Any]],
) -> None:
    config = DenseNetConfig(depth=7, growth_rate=2, dtype="bfloat16")
    assert logits_shape(config, jnp.zeros((2, 8, 8, 3))).dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(model_shapes(config))} == {jnp.dtype("float32")}


def call_order(config: DenseNetConfig) -> list[str]:
    """Names of the convolutions, normalizations, dropouts and the classifier, as they run."""
    names: list[str] = []

    def record(next_call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, nn.Dropout):
            names.append("dropout")
        elif not isinstance(context.module, DenseNet) and context.method_name == "__call__":
            if not any(word in context.module.name for word in ("dense", "transition")):
                names.append(context.module.name)
        return next_call(*args, **kwargs)

    with nn.intercept_methods(record):
        logits_shape(config, jnp.zeros((1, 32, 32, 3)))
    return names


LAYER = {
    "plain": ["norm1", "conv1", "dropout"],
    "cifar": ["norm1", "conv1", "dropout", "norm2", "conv2", "dropout"],
    "imagenet": ["norm1", "conv1", "norm2", "conv2", "dropout"],
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["conv0", *LAYER["plain"], "norm", "conv", "dropout", *LAYER["plain"]]),
        (
            {"bottleneck": True},
            ["conv0", *LAYER["cifar"], "norm", "conv", "dropout", *LAYER["cifar"]],
        ),
        (
            {"bottleneck": True, "stem": "imagenet"},
            ["conv0", "norm0", *LAYER["imagenet"], "norm", "conv", *LAYER["imagenet"]],
        ),
    ],
)
def test_layers_run_in_the_order_of_the_paper(fields: dict[str, Any], expected: list[str]) -> None:
    config = DenseNetConfig(blocks=(1, 1), growth_rate=2, dropout_rate=0.5, **fields)
    assert call_order(config) == [*expected, "norm5", "classifier"]


def layer_output(dropout_rate: float, *, train: bool, seed: int = 0, **fields: Any) -> np.ndarray:
    config = DenseNetConfig(blocks=(1,), growth_rate=8, dropout_rate=dropout_rate, **fields)
    x = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    layer = DenseLayer(config)
    variables = layer.init(jax.random.key(2), x, train=False)
    rngs = {"dropout": jax.random.key(seed)} if train else {}
    y = layer.apply(variables, x, train=train, mutable=["batch_stats"], rngs=rngs)[0]
    return np.asarray(y)


@pytest.mark.parametrize("fields", [{}, {"bottleneck": True, "stem": "imagenet"}])
def test_dropout_after_the_3x3_zeroes_a_share_and_scales_the_rest(fields: dict[str, Any]) -> None:
    kept = layer_output(0, train=True, **fields)
    dropped = layer_output(0.75, train=True, **fields)
    assert np.mean(dropped == 0) == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / kept.size) ** 0.5)
    np.testing.assert_allclose(dropped[dropped != 0], 4 * kept[dropped != 0], rtol=1e-5)


def test_dropout_of_the_cifar_stem_reaches_the_1x1_too() -> None:
    kept = layer_output(0, train=True, bottleneck=True)
    dropped = layer_output(0.75, train=True, bottleneck=True)
    ratio = dropped[dropped != 0] / kept[dropped != 0]
    assert np.mean(np.abs(ratio - 4) > 0.01) > 0.9  # the 3x3 saw another input


def test_dropout_acts_in_training_only_and_depends_on_the_key() -> None:
    np.testing.assert_array_equal(
        layer_output(0.5, train=False, bottleneck=True),
        layer_output(0, train=False, bottleneck=True),
    )
    first, second = (layer_output(0.5, train=True, seed=seed, bottleneck=True) for seed in (1, 2))
    assert np.any((first == 0) != (second == 0))


def test_evaluation_treats_each_image_by_itself() -> None:
    config = DenseNetConfig(blocks=(1,), growth_rate=2)
    apply = jax.jit(functools.partial(DenseNet(config).apply, train=False))
    variables = initialize(config, jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))
    logits = np.asarray(apply(variables, images))
    others_changed = np.asarray(apply(variables, images.at[1:].multiply(5)))
    np.testing.assert_array_equal(others_changed[0], logits[0])
    assert np.all(others_changed[1:] != logits[1:])
