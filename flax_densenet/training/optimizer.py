"""The paper's optimizer, SGD with Nesterov momentum, and its learning rate."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flax_densenet.implementations import native
from flax_densenet.training.config import Schedule

_MOMENTUM = 0.9
_PAPER_DROPS = (0.5, 0.75)
_NORM_EPSILON = 1e-6  # torch.nn.utils.clip_grad_norm_


def learning_rate_schedule(
    learning_rate: float,
    total_steps: int,
    *,
    kind: Schedule = "steps",
    drops: Sequence[float] = _PAPER_DROPS,
    warmup_steps: int = 0,
) -> optax.Schedule:
    """Returns the learning rate over the training; the paper's by default (section 4.2).

    Args:
      learning_rate: Its value after the warm-up.
      total_steps: Steps in the whole training.
      kind: "steps" divides by 10 at each of `drops`, as torch's MultiStepLR; "cosine" goes to 0 at
        the end, as CosineAnnealingLR over the steps after the warm-up.
      drops: Shares of all steps, rounded up to a step.
      warmup_steps: W steps with learning_rate (step + 1) / W, as LinearLR.

    Returns:
      A function from the step (from 0) to the learning rate.
    """
    if kind == "cosine":
        main = optax.cosine_decay_schedule(learning_rate, total_steps - warmup_steps)
    else:
        # Rounded first, since 2/3 of 90 epochs is not quite 60 in floating point.
        steps = [math.ceil(round(share * total_steps, 6)) - warmup_steps for share in drops]
        main = optax.piecewise_constant_schedule(
            learning_rate * 0.1 ** sum(step <= 0 for step in steps),
            {step: 0.1 for step in steps if step > 0},
        )
    if not warmup_steps:
        return main
    rise = optax.linear_schedule(learning_rate / warmup_steps, learning_rate, warmup_steps - 1)
    return optax.join_schedules([rise, main], [warmup_steps])


def sgd(
    schedule: optax.ScalarOrSchedule,
    weight_decay: float,
    *,
    max_gradient_norm: float | None = None,
    learning_rate_factors: Any = None,
    fused: bool = False,
) -> optax.GradientTransformation:
    """Returns the optimizer of the paper, equal to PyTorch's.

    It is `torch.optim.SGD(momentum=0.9, nesterov=True, weight_decay=weight_decay)`: the decay is
    added to the gradient before the momentum, for every parameter, biases and BN scales included.

    Args:
      schedule: Learning rate, or a function from the step to it.
      weight_decay: Factor of the parameter that is added to its gradient.
      max_gradient_norm: Before anything else, scale the gradients down to this norm over all of
        them, as `torch.nn.utils.clip_grad_norm_`; None does not.
      learning_rate_factors: What the learning rate of each parameter is multiplied by, as a tree
        like the parameters, as with PyTorch's parameter groups; None is 1 for all.
      fused: Compute it by the native library, all arrays in one call. It must be available.

    Returns:
      The optax transformation. Paper, section 4.2.
    """
    clip = [] if max_gradient_norm is None else [_clip_by_norm(max_gradient_norm)]
    scale = [] if learning_rate_factors is None else [_scale_each(learning_rate_factors)]
    if fused:
        main = [native.add_decayed_weights(weight_decay), native.nesterov_sgd(schedule, _MOMENTUM)]
    else:
        main = [
            optax.add_decayed_weights(weight_decay),
            optax.sgd(schedule, _MOMENTUM, nesterov=True),
        ]
    return optax.chain(*clip, *main, *scale)


def _clip_by_norm(max_norm: float) -> optax.GradientTransformation:
    """Clips as PyTorch does; optax.clip_by_global_norm lacks its 1e-6 in the denominator."""

    def clip(gradients: Any) -> Any:
        factor = jnp.minimum(1, max_norm / (optax.tree.norm(gradients) + _NORM_EPSILON))
        return jax.tree.map(lambda gradient: gradient * factor, gradients)

    return optax.stateless(lambda gradients, _: clip(gradients))


def _scale_each(factors: Any) -> optax.GradientTransformation:
    """Multiplies each update by its own factor; momentum does not depend on the learning rate."""
    return optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, factors))
