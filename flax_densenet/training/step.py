"""One training step and one evaluation step, as pure functions.

Axes: B batch, H height, W width, C channels.
"""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import lax

from flax_densenet.data.batches import EvalBatch, TrainBatch
from flax_densenet.network.layers import ArrayPath
from flax_densenet.network.model import DenseNet
from flax_densenet.training.augment import Preprocess
from flax_densenet.training.loss import cross_entropy, is_correct, is_in_top
from flax_densenet.training.parts import join_params, split_params

Metrics = dict[str, jax.Array]


class TrainState(flax.struct.PyTreeNode):
    """Everything that a training step reads and replaces.

    Attributes:
      step: Steps done.
      params: Parameters.
      batch_stats: Running statistics of the batch normalizations.
      optimizer_state: State of `optimizer`, for the parameters that are trained.
      average_params: Exponential moving average of the parameters, which evaluation uses; None
        without `ema_decay`.
      key_data: Data of the run's random key, [2] uint32; step and use are folded in.
      model: The network.
      optimizer: The optax transformation.
      preprocess: What happens to an image before the network.
      apply_updates: Adds the optimizer's updates to the parameters.
      label_smoothing: Share of the target probability that is spread over all classes.
      ema_decay: Weight of the old average at each step.
      frozen: Paths of the parameters that are not trained.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    optimizer_state: Any
    average_params: Any
    key_data: jax.Array
    model: DenseNet = flax.struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = flax.struct.field(pytree_node=False)
    preprocess: Preprocess = flax.struct.field(pytree_node=False)
    apply_updates: Callable[[Any, Any], Any] = flax.struct.field(
        pytree_node=False, default=optax.apply_updates
    )
    label_smoothing: float = flax.struct.field(pytree_node=False, default=0.0)
    ema_decay: float | None = flax.struct.field(pytree_node=False, default=None)
    frozen: frozenset[ArrayPath] = flax.struct.field(pytree_node=False, default=frozenset())

    @property
    def variables(self) -> dict[str, Any]:
        """What the network is evaluated with: {"params", "batch_stats"}."""
        params = self.params if self.average_params is None else self.average_params
        return {"params": params, "batch_stats": self.batch_stats}


def train_step(
    state: TrainState, batch: TrainBatch, *, axis_name: str | None = None
) -> tuple[TrainState, Metrics]:
    """Does one step of gradient descent; no gradient is computed for what is frozen.

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
    trained, rest = split_params(state.params, state.frozen)

    def loss_fn(trained: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        logits, updates = state.model.apply(
            {"params": join_params(trained, rest), "batch_stats": state.batch_stats},
            image,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        loss = cross_entropy(logits, label, smoothing=state.label_smoothing)
        return jnp.mean(loss), (logits, updates["batch_stats"])

    (loss, (logits, batch_stats)), gradients = jax.value_and_grad(loss_fn, has_aux=True)(trained)
    metrics = {"loss": loss, "accuracy": jnp.mean(is_correct(logits, label))}
    if axis_name is not None:
        gradients, batch_stats, metrics = lax.pmean((gradients, batch_stats, metrics), axis_name)
    if state.model.freeze_batch_norm:  # a mean of equal numbers may round
        batch_stats = state.batch_stats
    updates, optimizer_state = state.optimizer.update(gradients, state.optimizer_state, trained)
    params = join_params(state.apply_updates(trained, updates), rest)
    new_state = state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        optimizer_state=optimizer_state,
        average_params=_average(state, params),
    )
    return new_state, metrics


def eval_step(state: TrainState, batch: EvalBatch, *, axis_name: str | None = None) -> Metrics:
    """Evaluates one batch; only its valid examples count.

    Args:
      state: Current state.
      batch: {"image": [B, H, W, C] uint8, "label": [B] int32, "valid": [B] bool}.
      axis_name: Mapped axis of `pmap`, over which is summed; None under `jit`.

    Returns:
      Sums over the valid examples, "loss", "correct", "in_top" (the label is among the five best)
      and "count".
    """
    key = jax.random.wrap_key_data(state.key_data)
    image = state.preprocess(jnp.asarray(batch["image"]), key, train=False)
    logits = jnp.asarray(state.model.apply(state.variables, image, train=False))
    label, valid = batch["label"], jnp.asarray(batch["valid"])
    sums = {
        "loss": jnp.sum(jnp.where(valid, cross_entropy(logits, label), 0)),
        "correct": jnp.sum(valid & is_correct(logits, label)),
        "in_top": jnp.sum(valid & is_in_top(logits, label)),
        "count": jnp.sum(valid),
    }
    return sums if axis_name is None else lax.psum(sums, axis_name)


def _average(state: TrainState, params: Any) -> Any:
    """Returns the new average, equal to `torch.optim.swa_utils.get_ema_multi_avg_fn`'s."""
    if state.ema_decay is None:
        return None
    weight = jnp.where(state.step == 0, 1.0, 1 - state.ema_decay)  # torch's first one is a copy
    return optax.incremental_update(params, state.average_params, weight)
