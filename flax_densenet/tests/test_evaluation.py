"""Tests of `evaluate` in flax_densenet/training/evaluation.py."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_densenet import DenseNet, DenseNetConfig
from flax_densenet.data import ArraySplit
from flax_densenet.data.batches import EvalBatch
from flax_densenet.training import Preprocess, TrainState, create_state, eval_step, evaluate, sgd

# Image i is filled with i.
TEN = ArraySplit(
    np.broadcast_to(np.arange(10, dtype=np.uint8)[:, None, None, None], (10, 4, 4, 1)),
    np.arange(10, dtype=np.int32) % 3,
)


def right_on_eight(state: TrainState, batch: EvalBatch) -> dict[str, jax.Array]:
    """Sums of a model that is wrong on images 3 (badly) and 7, and whose loss on image i is i."""
    i, valid = batch["image"][:, 0, 0, 0].astype(np.float32), batch["valid"]
    correct = valid & (i != 3) & (i != 7)
    return {
        "loss": jnp.sum(jnp.where(valid, i, 0)),
        "correct": jnp.sum(correct),
        "in_top": jnp.sum(valid & (i != 3)),
        "count": jnp.sum(valid),
    }


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 64])
def test_error_is_the_share_of_wrong_examples_for_every_batch_size(batch_size: int) -> None:
    result = evaluate(right_on_eight, cast(Any, None), TEN, batch_size)
    assert result == {
        "loss": pytest.approx(4.5),
        "error": pytest.approx(0.2),
        "top5_error": pytest.approx(0.1),
    }


def test_real_network_gives_the_mean_of_its_examples() -> None:
    config = DenseNetConfig(blocks=(1,), growth_rate=2, in_channels=1, num_classes=3)
    state = create_state(DenseNet(config), sgd(0.1, 0), Preprocess((4.5,), (3.0,), "none"), seed=0)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    x = (TEN.image.astype(np.float32) - 4.5) / 3
    logits = np.asarray(state.model.apply(variables, x, train=False), np.float64)
    loss = np.log(np.exp(logits).sum(1)) - logits[np.arange(10), TEN.label]
    wrong = np.mean(logits.argmax(1) != TEN.label)
    for batch_size in (4, 10):
        result = evaluate(jax.jit(eval_step), state, TEN, batch_size)
        assert result["loss"] == pytest.approx(loss.mean(), rel=1e-5)
        assert result["error"] == pytest.approx(wrong)
