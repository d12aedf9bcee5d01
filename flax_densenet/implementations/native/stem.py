"""The compiled stem of the ImageNet networks, in training with its gradient and in evaluation.

Axes: B batch, H height, W width, C channels of the image, D of the stem; h, w after pooling.

The small networks' stem is a single convolution, which XLA computes.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.implementations import stem as plain
from flax_densenet.implementations.native.calls import call
from flax_densenet.implementations.statistics import BatchStatistics, Statistics
from flax_densenet.implementations.walk import Layer, Variables
from flax_densenet.network.config import DenseNetConfig


def train_stem(
    config: DenseNetConfig, params: Variables, image: Float[Array, "B H W C"]
) -> tuple[Float[Array, "B D h w"], BatchStatistics | None]:
    """Computes what comes before the first block on the statistics of the batch.

    Args:
      config: The network.
      params: Its parameters under torchvision's names.
      image: [B, H, W, C].
    """
    if config.stem == "imagenet":
        return _stem(config, {name: params[name] for name in ("conv0", "norm0")}, image)
    x, statistics = plain.stem(config, params, None, image)
    return jnp.moveaxis(x, -1, 1), statistics


def evaluate_stem(
    config: DenseNetConfig, params: Variables, running: Variables, image: Float[Array, "B H W C"]
) -> Float[Array, "B D h w"]:
    """Computes what comes before the first block on the running statistics.

    Args:
      config: The network.
      params: Its parameters under torchvision's names.
      running: Its running statistics, likewise.
      image: [B, H, W, C].
    """
    if config.stem != "imagenet":
        return jnp.moveaxis(plain.stem(config, params, running, image)[0], -1, 1)
    pooled: jax.Array = call(
        "stem_evaluate",
        _shapes(params, image)[1],
        *_given(params, image),
        running["norm0"]["mean"],
        running["norm0"]["var"],
        attributes={"epsilon": config.batch_norm_epsilon},
    )
    return pooled


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _stem(
    config: DenseNetConfig, params: dict[str, Layer], image: jax.Array
) -> tuple[jax.Array, BatchStatistics]:
    return _forward(config, params, image)[0]


def _forward(
    config: DenseNetConfig, params: dict[str, Layer], image: jax.Array
) -> tuple[tuple[jax.Array, BatchStatistics], tuple]:
    convolved, pooled = _shapes(params, image)
    vector = jax.ShapeDtypeStruct((convolved.shape[1],), image.dtype)
    winners = jax.ShapeDtypeStruct(pooled.shape, jnp.uint8)
    y, mean, var, pooled, winners = call(
        "stem",
        (convolved, vector, vector, pooled, winners),
        *_given(params, image),
        attributes={"epsilon": config.batch_norm_epsilon},
    )
    statistics = BatchStatistics(Statistics(mean, var), y.shape[0] * y.shape[2])
    return (pooled, statistics), (params, image, (y, mean, var, pooled, winners))


def _backward(
    config: DenseNetConfig, kept: tuple, gradient: tuple[jax.Array, BatchStatistics]
) -> tuple[dict[str, Layer], jax.Array]:
    params, image, made = kept
    of_pooled, of_statistics = gradient
    _, scale, bias, kernel = given = _given(params, image)
    of_scale, of_bias, of_kernel = call(
        "stem_gradient",
        tuple(jax.ShapeDtypeStruct(x.shape, image.dtype) for x in (scale, bias, kernel)),
        *given,
        *made,
        of_pooled,
        *of_statistics.statistics,
        attributes={"epsilon": config.batch_norm_epsilon},
    )
    of_params = {"conv0": {"kernel": of_kernel}, "norm0": {"scale": of_scale, "bias": of_bias}}
    # Hardly anyone asks for this one; where nobody does, XLA leaves it out.
    _, through_image = jax.vjp(lambda image: plain.stem(config, params, None, image), image)
    (of_image,) = through_image((jnp.moveaxis(of_pooled, 1, -1), of_statistics))
    return of_params, of_image


_stem.defvjp(_forward, _backward)


def _given(params: Variables, image: jax.Array) -> tuple[jax.Array, ...]:
    norm = params["norm0"]
    return image, norm["scale"], norm["bias"], params["conv0"]["kernel"]


def _shapes(
    params: Variables, image: jax.Array
) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Returns those behind the convolution, with its pixels in one axis, and behind pooling."""
    batch_size, channels = image.shape[0], params["conv0"]["kernel"].shape[3]
    height, width = (-(-size // 2) for size in image.shape[1:3])
    pooled = -(-height // 2), -(-width // 2)
    return (
        jax.ShapeDtypeStruct((batch_size, channels, height * width), image.dtype),
        jax.ShapeDtypeStruct((batch_size, channels, *pooled), image.dtype),
    )
