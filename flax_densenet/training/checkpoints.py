"""The checkpoints of a run, saved and restored with Orbax.

A checkpoint has three items. "variables" is {"params", "batch_stats"}, all that using the network
takes. "training" is what only going on takes: step, optimizer state, random key and, with a moving
average, the parameters themselves. "unfinished_epoch" has the metrics of an epoch's steps so far.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from flax_densenet.errors import SavingFailed
from flax_densenet.training.damage import (
    check_same_tree,
    damaged_checkpoints,
    saved_error,
    set_aside,
)
from flax_densenet.training.step import TrainState
from flax_densenet.weights.files.orbax_files import finished_checkpoints

_UNFINISHED_MARK = ".orbax-checkpoint-tmp"


class CheckpointStore:
    """The checkpoints of one run, numbered by steps done; the newest and the best are kept.

    Use it as a context manager: leaving it waits until everything is on the disk. Every method that
    writes raises SavingFailed if that cannot be done.

    Attributes:
      leftovers: Names of unfinished checkpoints, which a killed process left; they are removed.
      damaged: What is wrong with checkpoints that are not whole, by their number. They are not
        used; unless `read_only` each gets another name.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        """Opens `directory` (absolute), which need not exist, and removes leftovers.

        Args:
          directory: Where the checkpoints are.
          read_only: Change nothing.

        Raises:
          InputError: There are checkpoints, and all of them are damaged.
        """
        self.damaged = damaged_checkpoints(directory)
        self._directory = directory
        if not read_only:
            set_aside(directory, list(self.damaged))
        self.leftovers = sorted(path.name for path in directory.glob(f"*{_UNFINISHED_MARK}*"))
        # Orbax's manager reads the errors of all checkpoints, and fails if one is damaged.
        self._manager = None if read_only else _manager(directory)

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._manager is not None:
            with _saving("the last checkpoint"):
                self._manager.close()

    def all_steps(self) -> list[int]:
        """Returns the numbers of the finished checkpoints, in rising order."""
        if self._manager is not None:
            return sorted(self._manager.all_steps())
        found = {int(checkpoint.name) for checkpoint in finished_checkpoints(self._directory)}
        return sorted(found - self.damaged.keys())

    def latest_step(self) -> int | None:
        """Returns the number of steps that the newest checkpoint has done, or None."""
        return max(self.all_steps(), default=None)

    def best_step(self) -> int | None:
        """Returns the number of steps of the checkpoint with the smallest error, or None."""
        errors = {step: saved_error(self._directory / str(step)) for step in self.all_steps()}
        ranks = [(error, -step) for step, error in errors.items() if error is not None]
        return -min(ranks)[1] if ranks else None

    def save(
        self,
        state: TrainState,
        unfinished_epoch: list[dict[str, float]],
        error: float | None = None,
    ) -> None:
        """Starts saving; training may go on meanwhile.

        Args:
          state: State to save, under the number of its step.
          unfinished_epoch: Metrics of the steps done in an epoch that is not; empty between two.
          error: What the best checkpoint has least of; None in the middle of an epoch.
        """
        assert self._manager is not None, "opened with read_only"
        items: dict[str, Any] = {
            name: ocp.args.StandardSave(tree) for name, tree in _items(state).items()
        }
        items["unfinished_epoch"] = ocp.args.JsonSave(unfinished_epoch)
        step = int(state.step)
        # Waits for the checkpoint before, whose failure shows here.
        with _saving(f"the checkpoint of step {step} or the one before"):
            self._manager.save(
                step,
                args=ocp.args.Composite(**items),
                metrics=None if error is None else {"error": error},
            )

    def wait(self) -> None:
        """Waits until everything is on the disk."""
        assert self._manager is not None, "opened with read_only"
        with _saving("the last checkpoint"):
            self._manager.wait_until_finished()

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, list[dict[str, float]]]:
        """Returns the saved state and the metrics of an epoch that is not done.

        Args:
          step: Number of the checkpoint.
          like: State whose devices and static fields the restored one has.

        Raises:
          InputError: It is the state of another network or optimizer.
        """
        check_same_tree(self._directory / str(step), _items(like))
        targets: dict[str, Any] = {
            name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree))
            for name, tree in _items(like).items()
        }
        targets["unfinished_epoch"] = ocp.args.JsonRestore()
        restored = self._read(step, ocp.args.Composite(**targets))
        variables, training = restored["variables"], restored["training"]
        average = None
        if like.average_params is not None:
            average, variables["params"] = variables["params"], training.pop("params")
        state = like.replace(**variables, **training, average_params=average)
        return state, restored["unfinished_epoch"]

    def restore_variables(self, step: int, like: TrainState) -> dict[str, Any]:
        """Returns the saved {"params", "batch_stats"}, on the devices of `like`.

        Raises:
          InputError: They are those of another network.
        """
        check_same_tree(self._directory / str(step), {"variables": like.variables})
        target = ocp.args.StandardRestore(jax.tree.map(_abstract, like.variables))
        restored = self._read(step, ocp.args.Composite(variables=target))
        return restored["variables"]

    def _read(self, step: int, items: ocp.args.Composite) -> Any:
        if self._manager is not None:
            return self._manager.restore(step, args=items)
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            return checkpointer.restore(self._directory / str(step), args=items)


def _manager(directory: Path) -> ocp.CheckpointManager:
    best = BestN(get_metric_fn=_error, reverse=True, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        best_fn=_error,
        best_mode="min",
        preservation_policy=AnyPreservationPolicy([LatestN(1), best]),
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(directory, options=options)


@contextlib.contextmanager
def _saving(what: str) -> Iterator[None]:
    """Turns whatever Orbax and its storage raise for a full disk and the like into one error.

    Saving takes all processes of a run. That one of them is lost is no matter of the disk, and is
    left to `processes.ending_with_the_others`.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() > 1:
            raise
        raise _saving_failed(what, error) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise _saving_failed(what, error) from error


def _saving_failed(what: str, error: Exception) -> SavingFailed:
    reason = str(error).strip().splitlines()[0]
    return SavingFailed(f"{what} cannot be written ({reason})")


def _items(state: TrainState) -> dict[str, dict[str, Any]]:
    training = {
        "step": state.step,
        "optimizer_state": state.optimizer_state,
        "key_data": state.key_data,
    }
    if state.average_params is not None:
        training["params"] = state.params
    return {"variables": state.variables, "training": training}


def _abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def _error(metrics: dict[str, float]) -> float:
    return metrics["error"]
