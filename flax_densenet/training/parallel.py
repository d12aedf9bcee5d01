"""Steps on all devices and processes: `jit` over a mesh, or `pmap`.

Other modules jit functions for one device; only this one places batches and states on several.

Axes: B batch, b part of the batch in this process, D devices of this process.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from flax_densenet.errors import InputError
from flax_densenet.training.config import ParallelMode
from flax_densenet.training.step import Metrics, TrainState, eval_step, train_step

_EXIT_LOST = 1


@contextlib.contextmanager
def ending_with_the_others() -> Iterator[None]:
    """Ends this process with a message if the others cannot be reached any more.

    It ends at once: everything that a normal exit does, such as finishing a checkpoint, would wait
    for the lost process, until JAX kills this one. Checkpoints that are finished are kept.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        reason = str(error).strip().splitlines()[0]
        print(
            f"\nerror: process {jax.process_index()} cannot go on with the other "
            f"{jax.process_count() - 1}, of which one has probably ended ({reason}); see its "
            "output, then start all of them again with --resume",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        os._exit(_EXIT_LOST)


Evaluation = Callable[..., Metrics]
_AXIS_NAME = "batch"
# On the CPU, XLA removes the barriers that keep what is computed a second time apart from what was
# computed first, and keeps the latter after all (docs/summary.md).
_KEEP_BARRIERS: dict[str, str | bool] = {"xla_disable_hlo_passes": "cse_barrier_expander"}


class ParallelSteps(NamedTuple):
    """Training and evaluation on all devices.

    Attributes:
      place: Puts a state where the steps want it, equal on every device.
      to_global: Returns a state as arrays of all processes together, as checkpoints hold it.
      train_step: `train_step` for this process's part [b, ...] of a batch [B, ...].
      eval_step: `eval_step` for this process's part of a batch.
      lower_train_step: `train_step` for such a state and batch as XLA gets it, not run.
    """

    place: Callable[[TrainState], TrainState]
    to_global: Callable[[TrainState], TrainState]
    train_step: Callable[[TrainState, Any], tuple[TrainState, Metrics]]
    eval_step: Callable[[TrainState, Any], Metrics]
    lower_train_step: Callable[[TrainState, Any], jax.stages.Lowered]


def parallel_steps(
    mode: ParallelMode, evaluation: Evaluation | None = None, *, remat: bool = False
) -> ParallelSteps:
    """Returns the steps on all devices, whose results do not depend on their number.

    Args:
      mode: "jit" shards the batch over a mesh and leaves the rest to the compiler; "auto" is that.
        "pmap" runs one program per device, with averaged gradients and statistics of the whole
        batch; the model needs `axis_name=mapped_axis("pmap")`.
      evaluation: Takes the place of `eval_step`; under pmap it takes an `axis_name`.
      remat: Have the compiler compute a second time what the model marks for that, where it would
        rather not: on the CPU, but for pmap, which has no such choice.
    """
    evaluation = evaluation or eval_step
    return _pmap_steps(evaluation) if mode == "pmap" else _jit_steps(evaluation, remat)


def mapped_axis(mode: ParallelMode) -> str | None:
    """Returns the `axis_name` that the model needs."""
    return _AXIS_NAME if mode == "pmap" else None


def check_batch_size(batch_size: int, num_devices: int) -> None:
    """Checks that every device gets as many examples as the others.

    Raises:
      InputError: The devices cannot share the batch evenly.
    """
    if batch_size % num_devices:
        below = batch_size - batch_size % num_devices
        nearest = f"{below} or {below + num_devices}" if below else f"{num_devices}"
        raise InputError(
            f"batch_size (={batch_size}) must be divisible by the {num_devices} devices; "
            f"use {nearest}"
        )


def _jit_steps(evaluation: Evaluation, remat: bool) -> ParallelSteps:
    mesh = jax.make_mesh((jax.device_count(),), (_AXIS_NAME,), axis_types=(AxisType.Auto,))
    everywhere, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P(_AXIS_NAME))
    compiled = partial(jax.jit, in_shardings=(everywhere, spread), out_shardings=everywhere)
    keep_barriers = _KEEP_BARRIERS if remat and jax.default_backend() == "cpu" else None
    train = compiled(train_step, donate_argnums=0, compiler_options=keep_barriers)
    evaluate = compiled(evaluation)

    def place_batch(batch: Any) -> Any:
        """Joins the parts that the processes have read to one array [B, ...]."""
        return jax.make_array_from_process_local_data(spread, batch)

    return ParallelSteps(
        place=lambda state: jax.device_put(state, everywhere),
        to_global=lambda state: state,
        train_step=lambda state, batch: train(state, place_batch(batch)),
        eval_step=lambda state, batch: evaluate(state, place_batch(batch)),
        lower_train_step=lambda state, batch: train.lower(state, place_batch(batch)),
    )


def _pmap_steps(evaluation: Evaluation) -> ParallelSteps:
    num_devices = jax.local_device_count()
    # The state is passed and returned once, not once per device.
    mapped = partial(jax.pmap, axis_name=_AXIS_NAME, in_axes=(None, 0), out_axes=None)
    train = mapped(partial(train_step, axis_name=_AXIS_NAME))
    evaluate = mapped(partial(evaluation, axis_name=_AXIS_NAME))
    return ParallelSteps(
        place=_to_local,
        to_global=_to_global,
        train_step=lambda state, batch: train(state, _split(batch, num_devices)),
        eval_step=lambda state, batch: evaluate(state, _split(batch, num_devices)),
        lower_train_step=lambda state, batch: train.lower(state, _split(batch, num_devices)),
    )


def _split(batch: Any, num_devices: int) -> Any:
    """Cuts this process's part into one per device: [b, ...] -> [D, b // D, ...]."""
    return jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), batch)


def _to_local(state: TrainState) -> TrainState:
    """Returns this process's copy of a replicated state, which is what pmap takes."""
    if jax.process_count() == 1:
        return state
    return jax.tree.map(lambda x: x.addressable_data(0), state)


def _to_global(state: TrainState) -> TrainState:
    """Returns the equal copies of all processes as one replicated state."""
    if jax.process_count() == 1:
        return state
    mesh = jax.make_mesh((jax.device_count(),), (_AXIS_NAME,), axis_types=(AxisType.Auto,))
    return multihost_utils.host_local_array_to_global_array(state, mesh, P())
