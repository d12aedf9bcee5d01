"""Going on with a training that another program has begun."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from flax_densenet.conversion.checkpoint import Checkpoint
from flax_densenet.errors import InputError
from flax_densenet.training.parameter_parts import split_params
from flax_densenet.training.step import TrainState


def continue_from(state: TrainState, checkpoint: Checkpoint) -> TrainState:
    """Returns a training state with the weights, momentum and step of a checkpoint.

    Args:
      state: A fresh state of the same network.
      checkpoint: A training checkpoint, with the state of SGD.

    Returns:
      The state after the checkpoint's step; its step is 0 where the file does not say.

    Raises:
      InputError: The checkpoint has no state of SGD.
    """
    if checkpoint.optimizer is None:
        raise InputError(
            "the checkpoint holds weights alone; wanted the optimizer's momentum, too; save "
            "optimizer.state_dict() beside the weights"
        )
    step = jnp.asarray(checkpoint.optimizer.step or 0, state.step.dtype)

    def like(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), new, old)

    trace = optax.tree_utils.tree_get(state.optimizer_state, "trace")
    momentum, _ = split_params(checkpoint.optimizer.momentum, state.frozen)
    values = {"trace": like(momentum, trace)}
    if optax.tree_utils.tree_get(state.optimizer_state, "count") is not None:
        values["count"] = step
    return state.replace(
        step=step,
        params=like(checkpoint.variables["params"], state.params),
        batch_stats=like(checkpoint.variables["batch_stats"], state.batch_stats),
        optimizer_state=optax.tree_utils.tree_set(state.optimizer_state, **values),
    )
