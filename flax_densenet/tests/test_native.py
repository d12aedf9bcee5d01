"""Compiled kernels equal the plain implementation."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_densenet import DenseNet, DenseNetConfig, initialize
from flax_densenet.implementations import statistics
from flax_densenet.implementations.chunks import Chunking
from flax_densenet.implementations.native import features
from flax_densenet.implementations.native.calls import average_prefixes, weighted_sums
from flax_densenet.parity.random_inputs import random_variables
from flax_densenet.tests.test_implementations import compare


def slow(*values: Any) -> Any:
    """Returns a case that repeats by night what its neighbours show by day."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("growth_rate", [1, slow(5), slow(12), 13, slow(26)])
def test_all_numbers_of_channels_are_computed(
    growth_rate: int, float64: None, small_chunks: None
) -> None:
    config = DenseNetConfig(
        blocks=(1, 1), growth_rate=growth_rate, bottleneck=True, dtype="float64"
    )
    compare("native", config, (8, 8), train=True, remat=False)


@pytest.mark.parametrize("size", [slow((32, 28)), slow((16, 14)), (14, 7), (25, 1)])
def test_all_widths_of_images_are_computed(
    size: tuple[int, int], float64: None, small_chunks: None
) -> None:
    config = DenseNetConfig(blocks=(2,), growth_rate=2, dtype="float64")
    compare("native", config, size, train=True, remat=False)


@pytest.mark.parametrize(
    ("size", "images_of_chunk"),
    [
        ((16, 16), 1),
        slow((12, 12), 2),
        ((13, 11), 3),
        slow((20, 14), 1),
        slow((10, 28), 2),
        ((4, 64), 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("growth_rate", [2, 13])
def test_maps_that_are_convolved_tile_by_tile(
    size: tuple[int, int],
    images_of_chunk: int,
    growth_rate: int,
    float64: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Chunks of at least 64 tiles, which are 2x2 pixels each (`kLeastTiles` in winograd.h)."""
    assert images_of_chunk * math.prod(-(-side // 2) for side in size) >= 64
    monkeypatch.setattr(features, "CHUNKING", Chunking(images_of_chunk * math.prod(size)))
    config = DenseNetConfig(blocks=(2,), growth_rate=growth_rate, dtype="float64")
    compare("native", config, size, train=True, remat=False)


@pytest.mark.parametrize(
    ("size", "images_of_chunk", "growth_rate", "train"),
    [
        ((20, 56), 1, 3, False),
        ((20, 56), 1, 130, True),
        slow((20, 56), 1, 3, True),
        slow((20, 56), 1, 130, False),
        ((21, 60), 1, 130, False),
        ((21, 60), 1, 3, True),
        slow((21, 60), 1, 130, True),
        slow((21, 60), 1, 3, False),
        ((20, 28), 2, 3, True),
        slow((20, 28), 2, 3, False),
        slow((20, 28), 2, 130, True),
        slow((20, 28), 2, 130, False),
    ],
    ids=str,
)
def test_maps_whose_tiles_go_strip_by_strip(
    size: tuple[int, int],
    images_of_chunk: int,
    growth_rate: int,
    train: bool,
    float64: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At least 28 columns of tiles, and more rows than fit (`TiledForward::kBytes`).

    The second layer has few or more than 128 input channels; a strip takes all or some of them at
    a time. With few there are 17 chunks, so that one of the 16 parts has two of them.
    """
    monkeypatch.setattr(features, "CHUNKING", Chunking(images_of_chunk * math.prod(size)))
    config = DenseNetConfig(blocks=(2,), growth_rate=growth_rate, dtype="float64")
    batch_size = 17 * images_of_chunk if growth_rate < 10 else 6
    compare("native", config, size, train=train, remat=False, batch_size=batch_size)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("size", [slow((16, 16)), slow((20, 14)), (33, 9)])
def test_1x1_convolutions_that_go_piece_by_piece(
    size: tuple[int, int], train: bool, float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """256 pixels or more, in pieces of 256, and in the end more than 128 input channels."""
    monkeypatch.setattr(features, "CHUNKING", Chunking(math.prod(size)))
    config = DenseNetConfig(blocks=(2, 1), growth_rate=50, bottleneck=True, dtype="float64")
    compare("native", config, size, train=train, remat=False)


def test_the_stem_takes_the_gradient_to_the_first_of_equal_pixels(float64: None) -> None:
    config = DenseNetConfig(
        blocks=(1,), growth_rate=2, bottleneck=True, stem="imagenet", dtype="float64"
    )
    # Where the first channel is constant, all pixels after the convolution are equal, but the
    # gradient of the others' zeros in its kernel depends on which of them it goes to.
    variables = random_variables(config)
    conv = variables["params"]["conv0"]
    conv["kernel"] = jnp.asarray(conv["kernel"]).at[:, :, 1:].set(0)
    image = jax.random.normal(jax.random.key(0), (2, 30, 30, 3)).at[..., 0].set(1)

    def gradient(implementation: Any) -> Any:
        model = DenseNet(config, implementation=implementation)

        def loss(params: dict) -> jax.Array:
            given = {**variables, "params": params}
            return jnp.sum(jnp.sin(model.apply(given, image, train=True, mutable=True)[0]))

        return jax.jit(jax.grad(loss))(variables["params"])

    def check(one: jax.Array, other: jax.Array) -> None:
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)

    jax.tree.map(check, gradient("native"), gradient("plain"))


def test_results_do_not_change_from_call_to_call() -> None:
    config = DenseNetConfig(blocks=(2, 2), growth_rate=12)
    model = DenseNet(config, implementation="native")
    variables = initialize(config, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (24, 32, 32, 3))

    @jax.jit
    def gradient(params: dict) -> dict:
        def loss(params: dict) -> jax.Array:
            given = {**variables, "params": params}
            return jnp.sum(model.apply(given, x, train=True, mutable=["batch_stats"])[0])

        return jax.grad(loss)(params)

    first = gradient(variables["params"])
    for _ in range(3):
        again = gradient(variables["params"])
        jax.tree.map(np.testing.assert_array_equal, first, again)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_not_a_number_stays_one(stem: Any) -> None:
    config = DenseNetConfig(blocks=(2,), growth_rate=4, stem=stem)
    variables = initialize(config, jax.random.key(0))
    x = jnp.ones((2, 32, 32, 3)).at[0, 9, 9, 0].set(jnp.nan)
    logits: Any = DenseNet(config, implementation="native").apply(variables, x, train=False)
    assert jnp.isnan(logits[0]).all() and jnp.isfinite(logits[1]).all()


def test_each_image_may_be_mapped() -> None:
    config = DenseNetConfig(blocks=(2,), growth_rate=4)
    variables = initialize(config, jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, 8, 8, 3))
    model = DenseNet(config, implementation="native")
    mapped = jax.vmap(lambda image: model.apply(variables, image[None], train=False)[0])(x)
    together: Any = model.apply(variables, x, train=False)
    np.testing.assert_allclose(mapped, together, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("add", [weighted_sums, jax.jit(weighted_sums)])
def test_sums_of_trees_are_written_out(add: Any, dtype: str, float64: None) -> None:
    draw = np.random.default_rng(0)
    shapes = {"none": (0,), "one": (1,), "piece": (16384,), "more": (16385,), "four": (3, 3, 7, 30)}
    x, y = (
        {name: draw.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
        for _ in range(2)
    )
    in_jax = partial(jax.tree.map, jnp.asarray)
    got = add(-2.5, in_jax(x), 0.3, in_jax(y))
    for name, shape in shapes.items():
        assert got[name].dtype == dtype and got[name].shape == shape
        rounding = float(10 * np.finfo(dtype).eps)  # of summands of about 10
        np.testing.assert_allclose(got[name], -2.5 * x[name] + 0.3 * y[name], rtol=0, atol=rounding)
    assert add(1, {}, 1, {}) == {}


def test_of_longer_statistics_the_first_numbers_count() -> None:
    (got,) = average_prefixes(0.5, [jnp.arange(3.0)], 2, [jnp.arange(5.0) + 1])
    np.testing.assert_allclose(got, [2, 4.5, 7])


def test_a_summand_that_is_used_again_is_not_written_to() -> None:
    x = {"kernel": jnp.arange(5.0)}

    def add(x: Any) -> Any:
        return weighted_sums(1, x, 2, x), x

    total, kept = jax.jit(add, donate_argnums=0)(jax.tree.map(jnp.copy, x))
    np.testing.assert_array_equal(kept["kernel"], x["kernel"])
    np.testing.assert_array_equal(total["kernel"], 3 * x["kernel"])


def test_derivatives_of_sums_are_those_of_xla(float64: None) -> None:
    def derivatives(average: Any) -> Any:
        def norm(b: Any, x: Any, y: Any) -> Any:
            return jnp.sum(average(1, [x], b, [y])[0] ** 2)

        return jax.grad(norm, argnums=(0, 1, 2))(0.3, jnp.arange(4.0), jnp.ones(6))

    pair = derivatives(average_prefixes), derivatives(statistics.average_prefixes)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-14), *pair)
