"""One training step and one evaluation step, as pure functions.

Axes: B batch, H height, W width, C channels, K classes.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from flax_densenet.data.batches import EvalBatch, TrainBatch
from flax_densenet.initialization import initialize
from flax_densenet.model import DenseNet
from flax_densenet.training.preprocess import Preprocess

Metrics = dict[str, jax.Array]


class TrainState(flax.struct.PyTreeNode):
    """Everything that a training step reads and replaces.

    Attributes:
      step: Steps done.
      params: Parameters.
      batch_stats: Running statistics of the batch normalizations.
      optimizer_state: State of `optimizer`.
      key_data: Data of the run's random key, [2] uint32; step and use are folded in.
      model: The network.
      optimizer: The optax transformation.
      preprocess: What happens to an image before the network.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    optimizer_state: Any
    key_data: jax.Array
    model: DenseNet = flax.struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = flax.struct.field(pytree_node=False)
    preprocess: Preprocess = flax.struct.field(pytree_node=False)


def create_state(
    model: DenseNet, optimizer: optax.GradientTransformation, preprocess: Preprocess, *, seed: int
) -> TrainState:
    """Returns the state before the first step; equal seeds give equal states."""
    init_key, run_key = jax.random.split(jax.random.key(seed))
    variables = initialize(model.config, init_key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        optimizer_state=jax.jit(optimizer.init)(variables["params"]),
        key_data=jax.random.key_data(run_key),
        model=model,
        optimizer=optimizer,
        preprocess=preprocess,
    )


def train_step(
    state: TrainState, batch: TrainBatch, *, axis_name: str | None = None
) -> tuple[TrainState, Metrics]:
    """Does one step of gradient descent.

    Args:
      state: Current state.
      batch: {"image": [B, H, W, C] uint8, "label": [B] int32}.
      axis_name: Mapped axis of `pmap`, over which gradients, statistics and metrics are averaged;
        None under `jit`, where the batch is the whole batch.

    Returns:
      The new state, and the batch's mean "loss" and "accuracy" before the step.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key_data), state.step)
    if axis_name is not None:  # each device draws its own noise
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    augment_key, dropout_key = jax.random.split(key)
    image = state.preprocess(jnp.asarray(batch["image"]), augment_key, train=True)
    label = batch["label"]

    def loss_fn(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        logits, updates = state.model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            image,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        return jnp.mean(cross_entropy(logits, label)), (logits, updates["batch_stats"])

    (loss, (logits, batch_stats)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(
        state.params
    )
    metrics = {"loss": loss, "accuracy": jnp.mean(is_correct(logits, label))}
    if axis_name is not None:
        gradients, batch_stats, metrics = lax.pmean((gradients, batch_stats, metrics), axis_name)
    updates, optimizer_state = state.optimizer.update(
        gradients, state.optimizer_state, state.params
    )
    new_state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        optimizer_state=optimizer_state,
    )
    return new_state, metrics


def eval_step(state: TrainState, batch: EvalBatch, *, axis_name: str | None = None) -> Metrics:
    """Evaluates one batch, of which only the valid examples count.

    Args:
      state: Current state.
      batch: {"image": [B, H, W, C] uint8, "label": [B] int32, "valid": [B] bool}.
      axis_name: Mapped axis of `pmap`, over which is summed; None under `jit`.

    Returns:
      Sums over the valid examples: "loss", "correct" and "count".
    """
    key = jax.random.wrap_key_data(state.key_data)
    image = state.preprocess(jnp.asarray(batch["image"]), key, train=False)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = jnp.asarray(state.model.apply(variables, image, train=False))
    label, valid = batch["label"], jnp.asarray(batch["valid"])
    sums = {
        "loss": jnp.sum(jnp.where(valid, cross_entropy(logits, label), 0)),
        "correct": jnp.sum(valid & is_correct(logits, label)),
        "count": jnp.sum(valid),
    }
    return sums if axis_name is None else lax.psum(sums, axis_name)


def cross_entropy(logits: Float[Array, "B K"], label: Int[ArrayLike, " B"]) -> Float[Array, " B"]:
    """Returns the loss of each example, in float32 or wider whatever the logits are."""
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def is_correct(logits: Float[Array, "B K"], label: Int[ArrayLike, " B"]) -> Bool[Array, " B"]:
    """Returns whether the largest logit of each example is its label's."""
    return jnp.argmax(logits, axis=-1) == label
