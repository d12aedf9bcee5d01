"""Loss and correctness of each example.

Axes: B batch, K classes.
"""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

TOP = 5  # ImageNet's second number is the share of labels outside the five best


def cross_entropy(
    logits: Float[Array, "B K"], label: Int[ArrayLike, " B"], *, smoothing: float = 0.0
) -> Float[Array, " B"]:
    """Returns the loss of each example, in float32 or wider whatever the logits are.

    Args:
      logits: [B, K].
      label: [B].
      smoothing: Share of the target probability that is spread evenly over all classes, as
        `torch.nn.CrossEntropyLoss(label_smoothing=smoothing)`.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    if smoothing:
        of_all_classes = -jnp.mean(jax.nn.log_softmax(logits), axis=-1)
        loss = (1 - smoothing) * loss + smoothing * of_all_classes
    return loss


def is_correct(logits: Float[Array, "B K"], label: Int[ArrayLike, " B"]) -> Bool[Array, " B"]:
    """Returns whether the largest logit of each example is its label's."""
    return jnp.argmax(logits, axis=-1) == label


def is_in_top(logits: Float[Array, "B K"], label: Int[ArrayLike, " B"]) -> Bool[Array, " B"]:
    """Returns whether fewer than five logits of each example are larger than its label's."""
    of_label = jnp.take_along_axis(logits, jnp.asarray(label)[:, None], axis=-1)
    return jnp.sum(logits > of_label, axis=-1) < TOP
