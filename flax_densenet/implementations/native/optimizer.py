"""Optax transformations computed by the compiled library, in one call for all arrays.

XLA compiles a kernel for each line of an optimizer and each array, of which a network has hundreds.
That is most of the time and memory that compiling a training step takes (decision 0013). Each
function has the state and, up to rounding, the result of optax's.
"""

from typing import Any

import jax.numpy as jnp
import optax

from flax_densenet.implementations.native.calls import weighted_sums


def add_decayed_weights(weight_decay: float) -> optax.GradientTransformation:
    """Adds each parameter times `weight_decay` to its gradient."""
    return optax.stateless(
        lambda gradients, params: weighted_sums(1, gradients, weight_decay, params)
    )


def nesterov_sgd(
    learning_rate: optax.ScalarOrSchedule, momentum: float
) -> optax.GradientTransformation:
    """Returns SGD with Nesterov momentum, `optax.sgd(learning_rate, momentum, nesterov=True)`.

    Args:
      learning_rate: Learning rate, or a function from the step to it.
      momentum: Decay of the momentum.
    """
    trace, rate = optax.trace(momentum, nesterov=True), optax.scale_by_learning_rate(learning_rate)

    def init(params: Any) -> Any:
        return trace.init(params), rate.init(params)

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        (old,), rate_state = state
        new = weighted_sums(momentum, old, 1, gradients)
        factor, rate_state = rate.update(jnp.ones(()), rate_state)
        updates = weighted_sums(factor, gradients, momentum * factor, new)
        return updates, (optax.TraceState(new), rate_state)

    return optax.GradientTransformation(init, update)


def apply_updates(params: Any, updates: Any) -> Any:
    """Returns params + updates."""
    return weighted_sums(1, params, 1, updates)
