"""Tests of flax_densenet/implementations/blocked: its convolution, pooling, memory and chunks."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from flax_densenet import DenseNet, DenseNetConfig, initialize
from flax_densenet.implementations.blocked.pooling import Window
from flax_densenet.implementations.blocked.stage import Convolution, kernel_matrix, matrix_kernel
from flax_densenet.implementations.chunks import Chunking, resize_chunks, to_chunks


@pytest.mark.parametrize(
    ("batch_size", "size", "wanted"),
    [(64, 32, 8), (64, 16, 32), (64, 8, 64), (8, 56, 2), (97, 32, 1), (1, 224, 1), (97, 8, 97)],
)
def test_a_chunk_has_about_as_many_pixels(batch_size: int, size: int, wanted: int) -> None:
    assert Chunking(pixels=8192).images(batch_size, size, size) == wanted


@pytest.mark.parametrize(
    ("batch_size", "size", "wanted"), [(64, 8, 16), (8, 7, 2), (6, 7, 1), (3, 7, 1), (1, 7, 1)]
)
def test_there_are_chunks_for_four_threads_if_the_batch_is_large_enough(
    batch_size: int, size: int, wanted: int
) -> None:
    assert Chunking(pixels=1024, least=4).images(batch_size, size, size) == wanted


def test_chunks_keep_every_pixel_in_its_place() -> None:
    image = jnp.arange(8 * 2 * 4 * 3).reshape(8, 2, 4, 3)
    small, large = Chunking(pixels=24), Chunking(pixels=48)
    chunks = to_chunks(small, image)
    assert chunks.shape == (4, 2, 24)
    np.testing.assert_array_equal(chunks[1, 1], image[2:4, 1].ravel())
    np.testing.assert_array_equal(resize_chunks(large, chunks, 4, 3), to_chunks(large, image))


def _one_chunk(image: jax.Array) -> jax.Array:
    """Joins a batch [B, H, W, C] to one chunk [C, P]."""
    return jnp.moveaxis(image, -1, 0).reshape(image.shape[-1], -1)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_taps_add_up_to_a_convolution_and_spread_is_their_transpose(size: int) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    image = jax.random.normal(keys[0], (2, 5, 4, 3))
    kernel = jax.random.normal(keys[1], (size, size, 3, 2))
    wanted = lax.conv_general_dilated(
        image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    convolution = Convolution(size, 5, 4)
    products = kernel_matrix(kernel) @ _one_chunk(image)
    got = convolution.add_taps(products)
    np.testing.assert_allclose(got, _one_chunk(wanted), atol=1e-5)
    np.testing.assert_array_equal(matrix_kernel(kernel_matrix(kernel), size), kernel)
    y = jax.random.normal(keys[2], got.shape)
    spread = convolution.spread_taps(y)
    np.testing.assert_allclose(jnp.sum(spread * products), jnp.sum(y * got), rtol=1e-5)


@pytest.mark.parametrize("size", [(6, 4), (7, 5)])
def test_windows_pool_like_flax_and_spread_is_their_transpose(size: tuple[int, int]) -> None:
    image = jax.random.normal(jax.random.key(0), (2, *size, 3))
    window = Window(*size, 2, 2)
    x = _one_chunk(image)
    got = window.pool(x)
    wanted = nn.avg_pool(image, (2, 2), (2, 2))
    np.testing.assert_allclose(got, _one_chunk(wanted), atol=1e-6)
    y = jax.random.normal(jax.random.key(1), got.shape)
    np.testing.assert_allclose(jnp.sum(window.spread(y) * x), jnp.sum(y * got), rtol=1e-5)


@pytest.mark.slow
def test_less_memory_than_plain_and_still_less_with_remat() -> None:
    config = DenseNetConfig(depth=28, growth_rate=8, bottleneck=True)
    variables = initialize(config, jax.random.key(0))

    def temporary_bytes(implementation: Any, remat: bool) -> int:
        model = DenseNet(config, remat=remat, implementation=implementation)

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
        temporary_bytes("blocked", False),
        temporary_bytes("blocked", True),
    )
    # Of four bottlenecks of 4 k maps in the first block, all but one are not kept.
    assert kept - remat > 3 * 4 * 4 * 8 * 64 * 32**2
    assert plain > 3 * kept
