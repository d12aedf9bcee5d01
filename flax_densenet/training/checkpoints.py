"""Saving and restoring a training state with Orbax.

A checkpoint has three items: "variables" ({"params", "batch_stats"}, all that using the network
takes), "training" (step, optimizer state and random key, which only going on takes) and "metrics"
(of the steps of an epoch that is not done).
"""

from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp

from flax_densenet.training.step import TrainState


class Checkpoints:
    """The checkpoints of one run, numbered by steps done; the newest is kept.

    Use it as a context manager: leaving it waits until everything is on the disk.
    """

    def __init__(self, directory: Path) -> None:
        """Opens `directory` (absolute), which need not exist."""
        options = ocp.CheckpointManagerOptions(
            preservation_policy=ocp.checkpoint_managers.LatestN(1)
        )
        self._manager = ocp.CheckpointManager(directory, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        """Returns the number of steps that the newest checkpoint has done, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState, metrics: list[dict[str, float]]) -> None:
        """Starts saving; training may go on meanwhile.

        Args:
          state: State to save, under the number of its step.
          metrics: Of the steps done in an epoch that is not; empty between two epochs.
        """
        items: dict[str, Any] = {
            name: ocp.args.StandardSave(tree) for name, tree in _items(state).items()
        }
        items["metrics"] = ocp.args.JsonSave(metrics)
        self._manager.save(int(state.step), args=ocp.args.Composite(**items))

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, list[dict[str, float]]]:
        """Returns the saved state and metrics.

        Args:
          step: Number of the checkpoint.
          like: State whose devices and static fields the restored one has.
        """
        targets: dict[str, Any] = {
            name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree))
            for name, tree in _items(like).items()
        }
        targets["metrics"] = ocp.args.JsonRestore()
        restored = self._manager.restore(step, args=ocp.args.Composite(**targets))
        state = like.replace(**restored["variables"], **restored["training"])
        return state, restored["metrics"]


def _items(state: TrainState) -> dict[str, dict[str, Any]]:
    return {
        "variables": {"params": state.params, "batch_stats": state.batch_stats},
        "training": {
            "step": state.step,
            "optimizer_state": state.optimizer_state,
            "key_data": state.key_data,
        },
    }


def _abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
