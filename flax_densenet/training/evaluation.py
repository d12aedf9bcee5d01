"""The error of a network over a whole split."""

from collections.abc import Callable

import jax
import numpy as np

from flax_densenet.data import Split
from flax_densenet.data.batches import EvalBatch, eval_batches
from flax_densenet.training.step import Metrics, TrainState


def evaluate(
    step: Callable[[TrainState, EvalBatch], Metrics],
    state: TrainState,
    split: Split,
    batch_size: int,
) -> dict[str, float]:
    """Returns mean "loss" and "error" (a share) over a split, each example counted once.

    Args:
      step: `eval_step`, compiled.
      state: State to evaluate.
      split: Images.
      batch_size: Images per step; it does not change the result.
    """
    sums = [step(state, batch) for batch in eval_batches(split, batch_size)]
    totals = jax.tree.map(lambda *values: float(np.sum(values)), *jax.device_get(sums))
    return {
        "loss": totals["loss"] / totals["count"],
        "error": 1 - totals["correct"] / totals["count"],
    }
