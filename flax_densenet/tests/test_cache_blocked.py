"""Computing chunk by chunk has the values, gradients and statistics of the plain formulation."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze
from jax import lax

from flax_densenet import DenseNet, DenseNetConfig, InputError, initialize
from flax_densenet.cache_blocked import chunks, is_cache_blocked
from flax_densenet.cache_blocked.chunks import images_per_chunk, resize_chunks, to_chunks
from flax_densenet.cache_blocked.convolution import Convolution, kernel_matrix, matrix_kernel
from flax_densenet.cache_blocked.pooling import Window
from flax_densenet.parity.random_inputs import random_variables

_NETWORKS = {
    "plain, odd size": (DenseNetConfig(blocks=(2, 2), growth_rate=3, dtype="float64"), (9, 7)),
    "BC": (
        DenseNetConfig(
            blocks=(2, 3), growth_rate=3, bottleneck=True, compression=0.6, dtype="float64"
        ),
        (8, 8),
    ),
    "imagenet": (
        DenseNetConfig(
            blocks=(2, 1), growth_rate=3, bottleneck=True, stem="imagenet", dtype="float64"
        ),
        (21, 34),
    ),
}


@pytest.mark.parametrize("name", _NETWORKS)
@pytest.mark.parametrize(("train", "remat"), [(False, False), (True, False), (True, True)], ids=str)
def test_values_gradients_and_statistics_are_those_of_the_plain_formulation(
    name: str, train: bool, remat: bool, float64: None, small_chunks: None
) -> None:
    config, size = _NETWORKS[name]
    variables = random_variables(config)
    image = jax.random.normal(jax.random.key(0), (6, *size, 3))
    assert to_chunks(image).shape[0] > 1

    def run(formulation: Any) -> Any:
        model = DenseNet(config, remat=remat, formulation=formulation)

        def loss(params: Any, image: jax.Array) -> Any:
            logits, updates = model.apply(
                {**variables, "params": params}, image, train=train, mutable=["batch_stats"]
            )
            of_statistics = sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(updates))
            return jnp.sum(jnp.sin(logits)) + 0.1 * of_statistics, (logits, updates)

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
            variables["params"], image
        )

    got, wanted = run("cache_blocked"), run("plain")

    def check(one: jax.Array, other: jax.Array) -> None:
        atol = 1e-12 * max(1.0, float(jnp.max(jnp.abs(other))))
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)

    jax.tree.map(check, got, wanted)


def test_variables_of_another_network_are_refused_and_further_ones_ignored() -> None:
    config = DenseNetConfig(blocks=(1, 1), growth_rate=2, bottleneck=True)
    variables, image = initialize(config, jax.random.key(0)), jnp.zeros((2, 4, 4, 3))

    def logits(network: DenseNetConfig, variables: Any) -> Any:
        model = DenseNet(network, formulation="cache_blocked")
        return model.apply(variables, image, train=False)

    # conv1 is 1x1 to 4 k channels with a bottleneck, and 3x3 to k without.
    message = r"denselayer1/conv1/kernel has shape \(1, 1, 4, 8\); .* wants \(3, 3, 4, 2\); use"
    with pytest.raises(InputError, match=message):
        plain = DenseNetConfig(blocks=(1, 1), growth_rate=2, stem_width=4)
        logits(plain, variables)
    without = {**variables, "params": {**variables["params"]}}
    del without["params"]["denseblock2"]
    with pytest.raises(
        InputError, match=r"denseblock2/denselayer1/norm1/scale is missing; .* \(6,"
    ):
        logits(config, without)
    further = {**variables, "params": {**variables["params"], "of somebody else": jnp.zeros(1)}}
    np.testing.assert_array_equal(logits(config, freeze(further)), logits(config, variables))


@pytest.mark.parametrize(
    ("batch_size", "size", "wanted"),
    [(64, 32, 8), (64, 16, 32), (64, 8, 64), (8, 56, 2), (97, 32, 1), (1, 224, 1), (97, 8, 97)],
)
def test_a_chunk_has_about_8192_pixels(batch_size: int, size: int, wanted: int) -> None:
    assert images_per_chunk(batch_size, size, size) == wanted


def test_chunks_keep_every_pixel_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    image = jnp.arange(8 * 4 * 3 * 2).reshape(8, 4, 3, 2)
    monkeypatch.setattr(chunks, "_PIXELS", 24)
    small = to_chunks(image)
    assert small.shape == (4, 2, 24)
    np.testing.assert_array_equal(small[1, 1], image[2:4, :, :, 1].ravel())
    monkeypatch.setattr(chunks, "_PIXELS", 48)
    np.testing.assert_array_equal(resize_chunks(small, 4, 3), to_chunks(image))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_taps_add_up_to_a_convolution_and_spread_is_their_transpose(size: int) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    image = jax.random.normal(keys[0], (2, 5, 4, 3))
    kernel = jax.random.normal(keys[1], (size, size, 3, 2))
    wanted = lax.conv_general_dilated(
        image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    convolution = Convolution(size, 5, 4)
    products = kernel_matrix(kernel) @ to_chunks(image)[0]
    got = convolution.add_taps(products)
    np.testing.assert_allclose(got, to_chunks(wanted)[0], atol=1e-5)
    np.testing.assert_array_equal(matrix_kernel(kernel_matrix(kernel), size), kernel)
    y = jax.random.normal(keys[2], got.shape)
    spread = convolution.spread_taps(y)
    np.testing.assert_allclose(jnp.sum(spread * products), jnp.sum(y * got), rtol=1e-5)


@pytest.mark.parametrize("size", [(6, 4), (7, 5)])
def test_windows_pool_like_flax_and_spread_is_their_transpose(size: tuple[int, int]) -> None:
    image = jax.random.normal(jax.random.key(0), (2, *size, 3))
    window = Window(*size, 2, 2)
    x = to_chunks(image)[0]
    got = window.pool(x)
    wanted = nn.avg_pool(image, (2, 2), (2, 2))
    np.testing.assert_allclose(got, to_chunks(wanted)[0], atol=1e-6)
    y = jax.random.normal(jax.random.key(1), got.shape)
    np.testing.assert_allclose(jnp.sum(window.spread(y) * x), jnp.sum(y * got), rtol=1e-5)


def test_auto_is_cache_blocked_on_one_cpu_device_where_that_is_possible() -> None:
    config = DenseNetConfig(dropout_rate=0.2)
    options: dict[str, Any] = {"train": False, "axis_name": None, "captured": False}
    assert is_cache_blocked("auto", config, **options)
    assert not is_cache_blocked("plain", config, **options)
    assert not is_cache_blocked("auto", config, **options | {"train": True})
    assert not is_cache_blocked("auto", config, **options | {"axis_name": "batch"})
    assert not is_cache_blocked("auto", config, **options | {"captured": True})
    assert not is_cache_blocked("auto", DenseNetConfig(dtype="bfloat16"), **options)


@pytest.mark.parametrize(
    ("config", "options", "obstacle"),
    [
        (DenseNetConfig(dtype="bfloat16"), {}, "bfloat16"),
        (DenseNetConfig(dropout_rate=0.2), {"train": True}, "dropout in training"),
        (DenseNetConfig(), {"axis_name": "batch"}, "pmap"),
    ],
)
def test_what_cache_blocked_cannot_do_is_said(
    config: DenseNetConfig, options: dict[str, Any], obstacle: str
) -> None:
    message = rf"^formulation \(=cache_blocked\) has no {obstacle}; use auto"
    with pytest.raises(InputError, match=message):
        is_cache_blocked(
            "cache_blocked",
            config,
            **{"train": False, "axis_name": None, "captured": False, **options},
        )


@pytest.mark.slow
def test_less_memory_than_plain_and_still_less_with_remat() -> None:
    config = DenseNetConfig(depth=28, growth_rate=8, bottleneck=True)
    variables = initialize(config, jax.random.key(0))

    def temporary_bytes(formulation: Any, remat: bool) -> int:
        model = DenseNet(config, remat=remat, formulation=formulation)

        def loss(params: Any, image: jax.Array) -> jax.Array:
            logits, _ = model.apply(
                {**variables, "params": params}, image, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(jnp.square(logits))

        image = jnp.zeros((64, 32, 32, 3))
        compiled = jax.jit(jax.grad(loss)).lower(variables["params"], image).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    plain, kept, remat = (
        temporary_bytes("plain", False),
        temporary_bytes("cache_blocked", False),
        temporary_bytes("cache_blocked", True),
    )
    # Of four bottlenecks of 4 k maps in the first block, all but one are not kept.
    assert kept - remat > 3 * 4 * 4 * 8 * 64 * 32**2
    assert plain > 3 * kept
