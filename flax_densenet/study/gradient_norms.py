"""How large the gradient is in each dense layer.

Axes: B batch, H height, W width, C channels; L dense layers.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_densenet.config import DenseNetConfig
from flax_densenet.data.batches import TrainBatch
from flax_densenet.layers import weight_layers
from flax_densenet.model import DenseNet
from flax_densenet.training.loss import cross_entropy
from flax_densenet.training.step import TrainState


def convolutions(config: DenseNetConfig) -> list[str]:
    """Returns the names of the convolutions that give new maps, one for each dense layer."""
    last = f"conv{config.convolutions_per_layer}"
    paths = [layer.path for layer in weight_layers(config)]
    return [".".join(path) for path in paths if len(path) == 3 and path[-1] == last]


def gradient_norms(state: TrainState, batch: TrainBatch) -> list[float]:
    """Returns the Euclidean norm of the loss's gradient in each dense layer's last kernel.

    Args:
      state: State of a training.
      batch: {"image": [B, H, W, C] uint8, "label": [B] int32}, not augmented.

    Returns:
      L norms, in forward order.
    """
    key = jax.random.wrap_key_data(state.key_data)
    image = state.preprocess(jnp.asarray(batch["image"]), key, train=False)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    norms = _norms(state.model, variables, image, jnp.asarray(batch["label"]), key)
    return [float(norm) for norm in norms]


@partial(jax.jit, static_argnums=0)
def _norms(
    model: DenseNet,
    variables: dict[str, Any],
    image: Float[Array, "B H W C"],
    label: jax.Array,
    key: jax.Array,
) -> Float[Array, " L"]:
    def loss(params: Any) -> jax.Array:
        logits, _ = model.apply(
            variables | {"params": params},
            image,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        return jnp.mean(cross_entropy(logits, label))

    gradients = jax.grad(loss)(variables["params"])
    norms = []
    for name in convolutions(model.config):
        layer = gradients
        for part in name.split("."):
            layer = layer[part]
        norms.append(jnp.linalg.norm(layer["kernel"].ravel()))
    return jnp.stack(norms)
