"""The error of a network over a whole split."""

from collections.abc import Callable

import jax
import numpy as np

from flax_densenet.data import Split
from flax_densenet.data.batches import WHOLE, EvalBatch, Share, eval_batches
from flax_densenet.training.step import Metrics, TrainState


def evaluate(
    step: Callable[[TrainState, EvalBatch], Metrics],
    state: TrainState,
    split: Split,
    batch_size: int,
    *,
    share: Share = WHOLE,
) -> dict[str, float]:
    """Returns mean "loss", "error" and "top5_error" over a split, each example counted once.

    Args:
      step: `eval_step`, compiled.
      state: State to evaluate.
      split: Images.
      batch_size: Images per step, of all processes together; it does not change the result.
      share: The part of each batch that this process reads.

    Returns:
      The loss in nats; the errors as shares.
    """
    sums = [step(state, batch) for batch in eval_batches(split, batch_size, share=share)]
    totals = jax.tree.map(lambda *values: float(np.sum(values)), *jax.device_get(sums))
    return {
        "loss": totals["loss"] / totals["count"],
        "error": 1 - totals["correct"] / totals["count"],
        "top5_error": 1 - totals["in_top"] / totals["count"],
    }
