"""The convolutions of the implementation for GPUs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.implementations.choose import Implementation
from flax_densenet.implementations.gpu import convolution
from flax_densenet.network.fields import ComputeType
from flax_densenet.parity.random_inputs import random_variables


def _reference(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (1, 3)])
def test_taps_add_up_to_the_convolution_and_its_gradients(
    size: tuple[int, int], float64: None
) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 6, 5, 4))
    kernel = jax.random.normal(keys[1], (*size, 4, 3))
    dy = jax.random.normal(keys[2], (2, 6, 5, 3))
    got, got_gradients = jax.vjp(convolution.convolve_by_taps, x, kernel)
    wanted, gradients = jax.vjp(_reference, x, kernel)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12)
    for one, other in zip(got_gradients(dy), gradients(dy), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "channels", "outputs", "by_taps"),
    [
        ("bfloat16", 48, 12, True),
        ("bfloat16", 28, 16, True),
        ("bfloat16", 128, 32, False),
        ("float32", 48, 12, False),
    ],
)
def test_taps_are_for_channels_that_would_be_padded(
    dtype: str, channels: int, outputs: int, by_taps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, ...]] = []

    def convolve_by_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
        calls.append(kernel.shape)
        return _reference(x, kernel)

    monkeypatch.setattr(convolution, "convolve_by_taps", convolve_by_taps)
    x = jnp.ones((1, 4, 4, channels), dtype)
    y = convolution.convolve(x, jnp.ones((3, 3, channels, outputs)))
    assert y.dtype == dtype and y.shape == (1, 4, 4, outputs)
    assert bool(calls) == by_taps


@pytest.mark.parametrize("train", [False, True])
def test_bfloat16_gives_the_plain_logits_of_float32_but_for_its_rounding(train: bool) -> None:
    x = jax.random.normal(jax.random.key(0), (8, 8, 8, 3))

    def logits(dtype: ComputeType, implementation: Implementation) -> np.ndarray:
        config = DenseNetConfig(
            blocks=(2, 2), growth_rate=12, bottleneck=True, compression=0.5, dtype=dtype
        )
        model = DenseNet(config, implementation=implementation)
        variables = random_variables(config)
        y, _ = model.apply(variables, x, train=train, mutable=["batch_stats"])
        return np.asarray(y, np.float32)

    # bfloat16 rounds to 8 bits; six convolutions and as many normalizations follow each other.
    got, wanted = logits("bfloat16", "gpu"), logits("float32", "plain")
    assert np.max(np.abs(got - wanted)) < 2**-8 * 12 * np.max(np.abs(wanted))
