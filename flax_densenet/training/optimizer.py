"""The paper's optimizer: SGD with Nesterov momentum, weight decay and two learning-rate drops."""

import math

import optax

_MOMENTUM = 0.9
_DROPS = (0.5, 0.75)  # shares of the training, each dividing the learning rate by 10


def learning_rate_schedule(learning_rate: float, total_steps: int) -> optax.Schedule:
    """Returns the paper's schedule: divided by 10 at 50 % and at 75 % of the steps.

    Args:
      learning_rate: Initial learning rate.
      total_steps: Steps in the whole training.

    Returns:
      A function from the step (from 0) to the learning rate. Paper, section 4.2.
    """
    drops = {math.ceil(share * total_steps): 0.1 for share in _DROPS}
    return optax.piecewise_constant_schedule(learning_rate, drops)


def sgd(schedule: optax.ScalarOrSchedule, weight_decay: float) -> optax.GradientTransformation:
    """Returns the optimizer of the paper, equal to PyTorch's.

    It is `torch.optim.SGD(momentum=0.9, nesterov=True, weight_decay=weight_decay)`: the decay is
    added to the gradient before the momentum, for every parameter, biases and BN scales included.

    Args:
      schedule: Learning rate, or a function from the step to it.
      weight_decay: Factor of the parameter that is added to its gradient.

    Returns:
      The optax transformation. Paper, section 4.2.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.sgd(schedule, momentum=_MOMENTUM, nesterov=True),
    )
