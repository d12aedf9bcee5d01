"""Starting a training from the weights of another one, whatever software they come from."""

import dataclasses
import hashlib
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flax_densenet.errors import InputError
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.training.config import RunConfig
from flax_densenet.training.parts import split_params
from flax_densenet.training.step import TrainState
from flax_densenet.weights.adapt import (
    StoredType,
    cast,
    check_agreement,
    with_in_channels,
    with_new_head,
)
from flax_densenet.weights.checkpoint import Checkpoint, load_checkpoint
from flax_densenet.weights.files.orbax_files import newest_checkpoint


class Source(NamedTuple):
    """Weights to start from.

    Attributes:
      path: Absolute path; of a run, that of the checkpoint.
      sha256: Checksum of a file; None for a directory.
      checkpoint: What it holds.
    """

    path: Path
    sha256: str | None
    checkpoint: Checkpoint


def open_source(init_from: str | Path, weight_set: str | None = None) -> Source:
    """Reads weights to start from.

    Args:
      init_from: A file or directory that `load_checkpoint` reads.
      weight_set: Which set of weights in it, where there are several.

    Raises:
      InputError: They cannot be read; `load_checkpoint` says why.
    """
    path = newest_checkpoint(Path(init_from).expanduser().absolute())
    checkpoint = load_checkpoint(path, weight_set=weight_set)
    return Source(path, _sha256(path) if path.is_file() else None, checkpoint)


def check_source(source: Source, network: DenseNetConfig, *, new_head: bool) -> None:
    """Checks that a network can start from weights; dropout, type and momentum may differ.

    Args:
      source: The weights.
      network: The network that is to be trained.
      new_head: Whether its classifier is new.

    Raises:
      InputError: They are those of another network, of other classes, or of other channels for
        which there is no rule.
    """
    found = source.checkpoint.config
    asked = dataclasses.replace(
        network,
        num_classes=found.num_classes,
        in_channels=found.in_channels,
        batch_norm_momentum=found.batch_norm_momentum,
    )
    check_agreement(
        found, asked, str(source.path), "leave the network's flags out, which the weights decide"
    )
    if network.num_classes != found.num_classes and not new_head:
        raise InputError(
            f"the weights in {source.path} are for {found.num_classes} classes, and "
            f"{network.num_classes} are wanted; give the network a new classifier with --new_head"
        )
    if network.in_channels != found.in_channels:
        with_in_channels(source.checkpoint.variables, found, network.in_channels)


def start_variables(run: RunConfig) -> dict[str, Any] | None:
    """Returns what a run starts from, {"params", "batch_stats"}; None is initial weights.

    Warnings are printed.

    Args:
      run: The run.

    Raises:
      InputError: The weights cannot be read, are no longer the same, or do not suit the network.
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
    variables, config = source.checkpoint.variables, source.checkpoint.config
    if how.new_head:
        seed = run.optimization.seed
        variables, config = with_new_head(variables, config, network.num_classes, seed=seed)
    if network.in_channels != config.in_channels:
        variables, config = with_in_channels(variables, config, network.in_channels)
    dtype: StoredType = "float64" if network.dtype == "float64" else "float32"
    return {
        collection: jax.tree.map(partial(cast, collection=collection, dtype=dtype), tree)
        for collection, tree in variables.items()
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def continue_from(state: TrainState, checkpoint: Checkpoint) -> TrainState:
    """Returns a training state with the weights, momentum and step of a checkpoint.

    Args:
      state: A fresh state of the same network.
      checkpoint: A training checkpoint, with the state of SGD.

    Returns:
      The state after the checkpoint's step; its step is 0 where the file does not say.

    Raises:
      InputError: The checkpoint has no state of SGD.
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
