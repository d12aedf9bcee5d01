"""Starts a training from the weights of another one, of whatever software.

`start_variables` gives a new training weights alone. `continue_from` goes on with a training that
was begun elsewhere: it takes momentum and step, too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flax_densenet.download import checksum_of
from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.training.config import RunConfig
from flax_densenet.training.parts import split_params
from flax_densenet.training.step import TrainState
from flax_densenet.weights.adapt import (
    adapt,
    check_agreement,
    in_class_order,
    with_in_channels,
)
from flax_densenet.weights.checkpoint import Checkpoint, check_head
from flax_densenet.weights.files.orbax_files import newest_checkpoint
from flax_densenet.weights.load import load_checkpoint


class Source(NamedTuple):
    """Weights to start from.

    Attributes:
      path: Absolute path of the file or, for a run, of its checkpoint's directory.
      sha256: Checksum of a file; None for a directory.
      checkpoint: The weights and their network.
    """

    path: Path
    sha256: str | None
    checkpoint: Checkpoint


def open_source(
    init_from: str | Path, weight_set: str | None = None, *, offline: bool = False
) -> Source:
    """Reads weights to start from.

    Args:
      init_from: A file, directory, name or address that `load_checkpoint` reads.
      weight_set: Which set of weights in it, where there are several.
      offline: Whether to download nothing.

    Raises:
      InputError: The weights cannot be read; `load_checkpoint` says why.
    """
    checkpoint = load_checkpoint(
        init_from, weight_set=weight_set, needs_head=False, offline=offline
    )
    path = newest_checkpoint(checkpoint.path.absolute())
    return Source(path, checksum_of(path) if path.is_file() else None, checkpoint)


def check_source(source: Source, network: DenseNetConfig, *, new_head: bool) -> None:
    """Checks that a network can start from weights; its dropout, type and momentum may differ.

    Args:
      source: The weights.
      network: The network that is to be trained.
      new_head: Whether its classifier is new.

    Raises:
      InputError: The weights are for another network, for other classes, or for channels that they
        cannot be adapted to.
    """
    found = source.checkpoint.config
    if not new_head:
        check_head(source.checkpoint)
    check_agreement(
        found,
        network,
        str(source.path),
        "leave the network's flags out, which the weights decide",
        free=("num_classes", "in_channels", "batch_norm_momentum"),
    )
    if network.num_classes != found.num_classes and not new_head:
        raise InputError(
            f"the weights in {source.path} are for {found.num_classes} classes, and "
            f"{network.num_classes} are wanted; give the network a new classifier with --new_head"
        )
    if network.in_channels != found.in_channels:
        with_in_channels(source.checkpoint.variables, found, network.in_channels)


def start_variables(run: RunConfig, class_names: Sequence[str]) -> dict[str, Any] | None:
    """Returns the weights that a run starts from, and prints warnings about them.

    Args:
      run: The run.
      class_names: Names of the classes of its images. A classifier that is kept, and whose classes
        have the same names in another order, is brought to theirs.

    Returns:
      {"params", "batch_stats"}; None if the run starts from initial weights.

    Raises:
      InputError: The weights cannot be read, are no longer the same, or do not suit the network or
        the classes.
    """
    how, network = run.fine_tuning, run.network
    if how.init_from is None:
        return None
    source = open_source(how.init_from, how.weights)
    if how.init_from_sha256 not in (None, source.sha256):
        raise InputError(
            f"{source.path} has changed since the run was started: its sha256 is {source.sha256}, "
            f"in config.json {how.init_from_sha256}; put the former file back, or start a new run"
        )
    check_source(source, network, new_head=how.new_head)
    if jax.process_index() == 0:
        for warning in source.checkpoint.warnings:
            print(f"warning: {warning}")
    variables, _ = adapt(
        source.checkpoint.variables,
        source.checkpoint.config,
        new_head=network.num_classes if how.new_head else None,
        in_channels=network.in_channels,
        dtype="float64" if network.dtype == "float64" else "float32",
        seed=run.optimization.seed,
    )
    if source.checkpoint.class_names is not None and not how.new_head:
        params = in_class_order(
            variables["params"],
            source.checkpoint.class_names,
            class_names,
            str(source.path),
            "give the network a new classifier with --new_head",
        )
        variables = {**variables, "params": params}
    return variables


def continue_from(state: TrainState, checkpoint: Checkpoint) -> TrainState:
    """Returns a training state with the weights, momentum and step of a checkpoint.

    To train on with it: `fit(..., adapt=lambda state: continue_from(state, checkpoint))`.

    Args:
      state: A fresh state of the same network.
      checkpoint: What `load_checkpoint(..., optimizer=True)` returns.

    Returns:
      The state after the checkpoint's step, or after step 0 if the file does not say it.

    Raises:
      InputError: The checkpoint holds no state of SGD.
    """
    if checkpoint.optimizer is None:
        raise InputError(
            "the checkpoint holds weights alone; wanted the optimizer's momentum, too; save "
            "optimizer.state_dict() beside the weights"
        )
    step = jnp.asarray(checkpoint.optimizer.step or 0, state.step.dtype)

    def like(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), new, old)

    trace = optax.tree_utils.tree_get(state.optimizer_state, "trace")
    momentum, _ = split_params(checkpoint.optimizer.momentum, state.frozen)
    values = {"trace": like(momentum, trace)}
    if optax.tree_utils.tree_get(state.optimizer_state, "count") is not None:
        values["count"] = step
    return state.replace(
        step=step,
        params=like(checkpoint.variables["params"], state.params),
        batch_stats=like(checkpoint.variables["batch_stats"], state.batch_stats),
        optimizer_state=optax.tree_utils.tree_set(state.optimizer_state, **values),
    )
