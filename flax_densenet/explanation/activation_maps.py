"""Class activation maps: which places of an image add to a logit.

Axes: B batch, H height, W width, C channels, K classes; h and w are of a feature map.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flax_densenet.densenet import DenseNet
from flax_densenet.errors import require


@partial(jax.jit, static_argnames="model")
def class_activation_map(
    model: DenseNet,
    variables: Mapping[str, Any],
    image: Float[Array, "B H W C"],
    class_index: Int[Array, " B"],
) -> Float[Array, "B h w"]:
    """Returns how much each place of the last feature maps adds to a logit.

    A DenseNet's logit is linear in the mean of these maps, so that this is exact: the mean of the
    result plus the classifier's bias is the logit. Source: Zhou et al., "Learning deep features for
    discriminative localization" (CVPR 2016), https://arxiv.org/abs/1512.04150.

    Args:
      model: The network.
      variables: {"params", "batch_stats"}.
      image: [B, H, W, C], normalized.
      class_index: Class of each image, [B].

    Returns:
      [B, h, w] in units of the logit; negative where the place speaks against the class.
    """
    features: Any = model.apply(variables, image, train=False, method="features", names=("last",))
    kernel = jnp.asarray(variables["params"]["classifier"]["kernel"])  # [C, K]
    return jnp.einsum("bhwc,cb->bhw", features["last"], kernel[:, class_index])


@partial(jax.jit, static_argnames=("model", "layer"))
def gradient_activation_map(
    model: DenseNet,
    variables: Mapping[str, Any],
    image: Float[Array, "B H W C"],
    class_index: Int[Array, " B"],
    *,
    layer: str = "norm5",
) -> Float[Array, "B h w"]:
    """Returns Grad-CAM: a layer's maps, each weighted by the mean gradient of the logit for it.

    Source: Selvaraju et al., "Grad-CAM" (ICCV 2017), https://arxiv.org/abs/1610.02391, equations 1
    and 2.

    Args:
      model: The network.
      variables: {"params", "batch_stats"}.
      image: [B, H, W, C], normalized.
      class_index: Class of each image, [B].
      layer: A block, such as "denseblock3", or "norm5", the maps before the last ReLU.

    Returns:
      [B, h, w], at least 0.

    Raises:
      InputError: The network has no such layer.
    """
    layers = gradient_layers(model)
    require(layer in layers, "layer", layer, f"one of {', '.join(layers)}")

    def features(names: tuple[str, ...]) -> dict[str, Array]:
        found: Any = model.apply(variables, image, train=False, method="features", names=names)
        return found

    def logit(shift: Array) -> tuple[Array, Array]:
        def add_shift(
            call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
        ) -> Any:
            y = call(*args, **kwargs)
            is_layer = context.module.path == (layer,) and context.method_name == "__call__"
            return y + shift if is_layer else y

        with nn.intercept_methods(add_shift):
            found = features((layer, "logits"))
        chosen = jnp.take_along_axis(found["logits"], class_index[:, None], axis=1)
        return jnp.sum(chosen), found[layer]

    like = jax.eval_shape(lambda: features((layer,)))[layer]
    gradient, x = jax.grad(logit, has_aux=True)(jnp.zeros(like.shape, like.dtype))
    weight = jnp.mean(gradient, axis=(1, 2))
    return nn.relu(jnp.einsum("bhwc,bc->bhw", x, weight))


def gradient_layers(model: DenseNet) -> tuple[str, ...]:
    """Returns the layers that Grad-CAM can look at."""
    return model.config.feature_names[:-3]  # the others are no modules, or the logits
