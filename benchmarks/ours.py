"""This package's network and steps, put together exactly as `flax-densenet train` does."""

from collections.abc import Mapping
from typing import Any

import jax

from benchmarks.jax_memory import program_memory
from flax_densenet.allocator import give_back_after_compiling
from flax_densenet.bench.programs import measured_state
from flax_densenet.data.batches import EvalBatch, TrainBatch
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.training.parallel import parallel_steps


class Ours:
    """The product's steps (see `benchmarks.contestants.Program`)."""

    def __init__(self, config: DenseNetConfig, *, remat: bool) -> None:
        give_back_after_compiling()
        self._steps = parallel_steps("auto", remat=remat)
        self._state = self._steps.place(measured_state(config, remat=remat))
        self._metrics: dict[str, jax.Array] = {}
        self.num_parameters = sum(x.size for x in jax.tree.leaves(self._state.params))
        self.device = jax.devices()[0].device_kind

    def prepare(self, batch: Any) -> Any:
        """Returns the batch as it is, in NumPy."""
        return batch

    def train(self, batch: TrainBatch) -> jax.Array:
        """Starts one training step."""
        self._state, self._metrics = self._steps.train_step(self._state, batch)
        return self._metrics["loss"]

    def evaluate(self, batch: EvalBatch) -> jax.Array:
        """Starts one evaluation step."""
        self._metrics = self._steps.eval_step(self._state, batch)
        return self._metrics["loss"]

    def wait(self) -> None:
        """Returns when all of the last step is done."""
        jax.block_until_ready((self._state, self._metrics))

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
