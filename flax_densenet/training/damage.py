"""Finds the checkpoints of a run that are damaged, or that are of another network.

It is done before Orbax reads: Orbax prints the tracebacks of all arrays that it cannot read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flax_densenet.errors import InputError, counted, listed
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.files.contents import damaged
from flax_densenet.weights.files.orbax_files import finished_checkpoints, read_checkpoint

_TRAINING = "training"
_ERROR = "metrics/metrics"
_TEXTS = (_ERROR, "*/_sharding", "*/array_metadatas/*", "unfinished_epoch/metadata")
_NEEDED = ("variables/_METADATA", "training/_METADATA", "unfinished_epoch/metadata")


def damaged_checkpoints(directory: Path) -> dict[int, InputError]:
    """Returns what is wrong with the checkpoints of a run.

    The arrays of those that are older than the newest whole one are not read.

    Args:
      directory: The checkpoints of a run; it need not exist.

    Returns:
      An error that names the checkpoint, by its number of steps.

    Raises:
      InputError: There are checkpoints, and all of them are damaged.
    """
    found: dict[int, InputError] = {}
    any_whole = False
    for checkpoint in finished_checkpoints(directory):
        try:
            _check_texts(checkpoint)
            if not any_whole:
                read_checkpoint(checkpoint)
        except InputError as error:
            if checkpoint.is_dir():  # else its run goes on, and has removed it
                found[int(checkpoint.name)] = error
        else:
            any_whole = True
    if found and not any_whole:
        raise InputError(
            f"no checkpoint in {directory} is whole: "
            f"{'; '.join(str(error) for error in found.values())}; or train again in another "
            "directory"
        )
    return found


def set_aside(directory: Path, steps: list[int]) -> None:
    """Gives checkpoints names with which they are no longer checkpoints of the run.

    Args:
      directory: The checkpoints of a run.
      steps: Their numbers.
    """
    if jax.process_index() == 0:
        for step in steps:
            names = (f"{step}.damaged{n or ''}" for n in range(len(list(directory.iterdir())) + 1))
            free = next(name for name in names if not (directory / name).exists())
            (directory / str(step)).rename(directory / free)
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("damaged checkpoints are set aside")


def saved_error(checkpoint: Path) -> float | None:
    """Returns the error that a checkpoint was saved with; None without one, or a damaged one."""
    try:
        error = json.loads((checkpoint / _ERROR).read_text())["error"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return error if isinstance(error, float | int) else None


def check_same_tree(checkpoint: Path, wanted: Mapping[str, Any]) -> None:
    """Checks that a checkpoint holds the arrays that are to be restored.

    Args:
      checkpoint: Its directory.
      wanted: Trees of arrays, by item: "variables" and perhaps "training".

    Raises:
      InputError: Arrays are missing, too many or of other shapes.
    """
    saved = {
        keys: array.shape
        for keys, array in read_checkpoint(checkpoint).arrays.items()
        if _TRAINING in wanted or keys[0] != _TRAINING
    }
    now = {
        (*((_TRAINING,) if item == _TRAINING else ()), *_keys(path)): np.shape(leaf)
        for item, tree in wanted.items()
        for path, leaf in jax.tree.leaves_with_path(tree)
    }
    missing, extra = ([_name(k) for k in a if k not in b] for a, b in ((now, saved), (saved, now)))
    shapes = [
        f"{_name(keys)} {saved[keys]} and not {shape}"
        for keys, shape in now.items()
        if saved.get(keys, shape) != shape
    ]
    differences = [
        f"{counted(names, 'array')} {what} ({listed(names)})"
        for names, what in (
            (missing, "missing"),
            (extra, "too many"),
            (shapes, "of other shapes"),
        )
        if names
    ]
    if differences:
        raise InputError(
            f"{checkpoint} is not of the network and training that config.json describes: "
            f"{', '.join(differences)}; put the run's own checkpoint back, or start a new run from "
            f"these weights with --init_from {checkpoint}"
        )


def _check_texts(checkpoint: Path) -> None:
    try:
        for name in _NEEDED:
            if not (checkpoint / name).is_file():
                raise FileNotFoundError(f"{name} is missing")
        for pattern in _TEXTS:
            for file in checkpoint.glob(pattern):
                json.loads(file.read_text())
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        raise damaged(checkpoint, error) from error


def _keys(path: tuple[Any, ...]) -> ArrayPath:
    names = (getattr(k, "key", getattr(k, "name", getattr(k, "idx", None))) for k in path)
    return tuple(str(name) for name in names)


def _name(keys: ArrayPath) -> str:
    return "/".join(keys)
