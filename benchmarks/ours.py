"""This package's network and steps, put together exactly as `flax_densenet.training.fit` does."""

from collections.abc import Mapping
from typing import Any

import jax

from benchmarks.jax_memory import program_memory
from benchmarks.recipe import LEARNING_RATE, SEED, WEIGHT_DECAY, channel_statistics
from flax_densenet.config import DenseNetConfig
from flax_densenet.data.batches import EvalBatch, TrainBatch
from flax_densenet.model import DenseNet
from flax_densenet.training.optimizer import learning_rate_schedule, sgd
from flax_densenet.training.parallel import parallel_steps
from flax_densenet.training.preprocess import Preprocess
from flax_densenet.training.step import TrainState, create_state

_TOTAL_STEPS = 1_000_000  # so many that the learning rate does not drop


def initial_state(config: DenseNetConfig, *, remat: bool = False) -> TrainState:
    """Returns the state before the first step."""
    return create_state(
        DenseNet(config, remat=remat),
        sgd(learning_rate_schedule(LEARNING_RATE, _TOTAL_STEPS), WEIGHT_DECAY),
        Preprocess(*channel_statistics(config), "none"),
        seed=SEED,
    )


class Ours:
    """The product's steps (see `benchmarks.contestants.Program`)."""

    def __init__(self, config: DenseNetConfig, *, remat: bool) -> None:
        self._steps = parallel_steps("auto")
        self._state = self._steps.place(initial_state(config, remat=remat))
        self.num_parameters = sum(x.size for x in jax.tree.leaves(self._state.params))
        self.device = jax.devices()[0].device_kind

    def train(self, batch: TrainBatch) -> float:
        """Does one training step."""
        self._state, metrics = jax.block_until_ready(self._steps.train_step(self._state, batch))
        return float(metrics["loss"])

    def evaluate(self, batch: EvalBatch) -> float:
        """Does one evaluation step."""
        return float(jax.block_until_ready(self._steps.eval_step(self._state, batch))["loss"])

    def memory(self) -> dict[str, int]:
        """Returns XLA's figures."""
        return program_memory()


def build(config: DenseNetConfig, variables: Mapping[str, Any], *, remat: bool = False) -> Ours:
    """Returns the contestant, whose own initial weights are those that the others get.

    Args:
      config: The network.
      variables: Not used.
      remat: Compute activations a second time in the backward pass.
    """
    del variables
    return Ours(config, remat=remat)
