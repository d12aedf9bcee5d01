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
from flax_densenet.training.step import TrainState

_UNFINISHED_MARK = ".orbax-checkpoint-tmp"


class CheckpointStore:
    """The checkpoints of one run, numbered by steps done; the newest and the best are kept.

    Use it as a context manager: leaving it waits until everything is on the disk. Every method that
    writes raises SavingFailed if that cannot be done.

    Attributes:
      leftovers: Names of unfinished checkpoints, which a killed process left; they are removed.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        """Opens `directory` (absolute), which need not exist, and removes leftovers.

        Args:
          directory: Where the checkpoints are.
          read_only: Change nothing.
        """
        self.leftovers = sorted(path.name for path in directory.glob(f"*{_UNFINISHED_MARK}*"))
        best = BestN(
            get_metric_fn=_error, reverse=True, n=1, keep_checkpoints_without_metrics=False
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=_error,
            best_mode="min",
            preservation_policy=AnyPreservationPolicy([LatestN(1), best]),
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(directory, options=options)

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _saving("the last checkpoint"):
            self._manager.close()

    def all_steps(self) -> list[int]:
        """Returns the numbers of the finished checkpoints, in rising order."""
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """Returns the number of steps that the newest checkpoint has done, or None."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Returns the number of steps of the checkpoint with the smallest error, or None."""
        return self._manager.best_step()

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
        with _saving("the last checkpoint"):
            self._manager.wait_until_finished()

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, list[dict[str, float]]]:
        """Returns the saved state and the metrics of an epoch that is not done.

        Args:
          step: Number of the checkpoint.
          like: State whose devices and static fields the restored one has.
        """
        targets: dict[str, Any] = {
            name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree))
            for name, tree in _items(like).items()
        }
        targets["unfinished_epoch"] = ocp.args.JsonRestore()
        restored = self._manager.restore(step, args=ocp.args.Composite(**targets))
        variables, training = restored["variables"], restored["training"]
        average = None
        if like.average_params is not None:
            average, variables["params"] = variables["params"], training.pop("params")
        state = like.replace(**variables, **training, average_params=average)
        return state, restored["unfinished_epoch"]

    def restore_variables(self, step: int, like: TrainState) -> dict[str, Any]:
        """Returns the saved {"params", "batch_stats"}, on the devices of `like`."""
        target = ocp.args.StandardRestore(jax.tree.map(_abstract, like.variables))
        restored = self._manager.restore(step, args=ocp.args.Composite(variables=target))
        return restored["variables"]


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
