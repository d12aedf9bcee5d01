"""The compiled stem of the ImageNet networks, in training and in evaluation.

The small networks' stem is a single convolution, which XLA computes.

Axes: B batch, H height, W width, C channels of the image, D channels of the stem; h, w height and
width after pooling.
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
    """Computes the stem on the statistics of the batch.

    Args:
      config: The network.
      params: Its parameters under torchvision's names.
      image: Images [B, H, W, C].

    Returns:
      The maps [B, D, h, w], and the statistics of the normalization if the stem has one.
    """
    if config.stem == "imagenet":
        return _stem(config, {name: params[name] for name in ("conv0", "norm0")}, image)
    x, statistics = plain.stem(config, params, None, image)
    return jnp.moveaxis(x, -1, 1), statistics


def evaluate_stem(
    config: DenseNetConfig, params: Variables, running: Variables, image: Float[Array, "B H W C"]
) -> Float[Array, "B D h w"]:
    """Computes the stem on the running statistics.

    Args:
      config: The network.
      params: Its parameters under torchvision's names.
      running: Its running statistics under the same names.
      image: Images [B, H, W, C].

    Returns:
      The maps [B, D, h, w].
    """
    if config.stem != "imagenet":
        return jnp.moveaxis(plain.stem(config, params, running, image)[0], -1, 1)
    results, _ = call(
        "stem_evaluate",
        {
            **_inputs(params, image),
            "running_mean": running["norm0"]["mean"],
            "running_var": running["norm0"]["var"],
        },
        results={"pooled": _shapes(params, image)[1]},
        attributes={"epsilon": config.batch_norm_epsilon},
    )
    return results["pooled"]


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
    shapes = {
        "convolved": convolved,
        "mean": vector,
        "var": vector,
        "pooled": pooled,
        "winners": jax.ShapeDtypeStruct(pooled.shape, jnp.uint8),
    }
    residuals, _ = call(
        "stem_forward",
        _inputs(params, image),
        results=shapes,
        attributes={"epsilon": config.batch_norm_epsilon},
    )
    statistics = BatchStatistics(
        Statistics(residuals["mean"], residuals["var"]), convolved.shape[0] * convolved.shape[2]
    )
    return (residuals["pooled"], statistics), (params, image, residuals)


def _backward(
    config: DenseNetConfig, kept: tuple, gradient: tuple[jax.Array, BatchStatistics]
) -> tuple[dict[str, Layer], jax.Array]:
    params, image, residuals = kept
    grad_pooled, grad_statistics = gradient
    inputs = _inputs(params, image)
    grad, _ = call(
        "stem_backward",
        {
            **inputs,
            **residuals,
            "grad_pooled": grad_pooled,
            "grad_mean": grad_statistics.statistics.mean,
            "grad_var": grad_statistics.statistics.var,
        },
        results={
            f"grad_{name}": jax.ShapeDtypeStruct(inputs[name].shape, image.dtype)
            for name in ("scale", "bias", "kernel")
        },
        attributes={"epsilon": config.batch_norm_epsilon},
    )
    grad_params = {
        "conv0": {"kernel": grad["grad_kernel"]},
        "norm0": {"scale": grad["grad_scale"], "bias": grad["grad_bias"]},
    }
    # The gradient of the image is rarely needed. XLA drops it if nobody uses it.
    _, through_image = jax.vjp(lambda image: plain.stem(config, params, None, image), image)
    (grad_image,) = through_image((jnp.moveaxis(grad_pooled, 1, -1), grad_statistics))
    return grad_params, grad_image


_stem.defvjp(_forward, _backward)


def _inputs(params: Variables, image: jax.Array) -> dict[str, jax.Array]:
    norm = params["norm0"]
    kernel = params["conv0"]["kernel"]
    return {"image": image, "scale": norm["scale"], "bias": norm["bias"], "kernel": kernel}


def _shapes(
    params: Variables, image: jax.Array
) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Returns the shapes after the convolution [B, D, pixels] and after pooling [B, D, h, w]."""
    batch_size, channels = image.shape[0], params["conv0"]["kernel"].shape[3]
    height, width = (-(-size // 2) for size in image.shape[1:3])
    pooled = -(-height // 2), -(-width // 2)
    return (
        jax.ShapeDtypeStruct((batch_size, channels, height * width), image.dtype),
        jax.ShapeDtypeStruct((batch_size, channels, *pooled), image.dtype),
    )
