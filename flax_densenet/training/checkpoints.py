"""Saving and restoring a training state with Orbax.

A checkpoint has two items: "variables" ({"params", "batch_stats"}, all that using the network
takes) and "training" (step, optimizer state and random key, which only going on takes).
"""

from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp

from flax_densenet.training.step import TrainState


class Checkpoints:
    """The checkpoints of one run, numbered by epochs done; the newest is kept.

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

    def latest_epoch(self) -> int | None:
        """Returns the number of epochs that the newest checkpoint has done, or None."""
        return self._manager.latest_step()

    def save(self, epochs_done: int, state: TrainState) -> None:
        """Starts saving; training may go on meanwhile."""
        items = {name: ocp.args.StandardSave(tree) for name, tree in _items(state).items()}
        self._manager.save(epochs_done, args=ocp.args.Composite(**items))

    def restore(self, epochs_done: int, like: TrainState) -> TrainState:
        """Returns the saved state, on the devices and with the static fields of `like`."""
        targets = {
            name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree))
            for name, tree in _items(like).items()
        }
        restored = self._manager.restore(epochs_done, args=ocp.args.Composite(**targets))
        return like.replace(**restored["variables"], **restored["training"])


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
