"""Reads and writes Orbax checkpoints, such as those in the work directories of runs.

Orbax writes them. TensorStore, the library below it, reads them, one array after the other. Orbax
itself reads many at once; if one is damaged, it prints the tracebacks of all. It also wants the
devices of the machine that wrote. The format holds no pickles.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flax_densenet.errors import InputError
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.files.contents import (
    FORMATS,
    Contents,
    check_claim,
    damaged,
    refused,
)

_TREE = "_METADATA"
_VARIABLES, _TRAINING, _METADATA = "variables", "training", "metadata"
_CHECKPOINTS = "checkpoints"
_EMPTY = {"Dict", "List", "Tuple", "NamedTuple", "EmptyState"}


def read_orbax(path: Path) -> Contents:
    """Reads a work directory, its checkpoints, one of them, or any tree that Orbax has saved.

    Args:
      path: The directory. Of several checkpoints, the newest is read.

    Returns:
      The arrays. In a run's checkpoint, those of "variables" have their own paths, and those that
      only training needs are under ("training", ...). If the newest one is damaged, it is the
      newest that is whole, and the notes say so.

    Raises:
      InputError: The directory holds no checkpoint, or damaged ones alone.
    """
    if is_checkpoint(path) or not (checkpoints := finished_checkpoints(path)):
        return read_checkpoint(path)
    failures: list[InputError] = []
    for checkpoint in checkpoints:
        try:
            contents = read_checkpoint(checkpoint)
        except InputError as error:
            if not checkpoint.is_dir():  # its run goes on, and has removed it
                return read_orbax(path)
            failures.append(error)
        else:
            notes = tuple(f"{failure}; {checkpoint} is read instead" for failure in failures)
            return contents._replace(notes=notes, read_instead=checkpoint if notes else None)
    raise failures[0]


def read_checkpoint(path: Path) -> Contents:
    """Reads one checkpoint, or any tree that Orbax has saved, as `read_orbax` does."""
    if is_checkpoint(path) and not (path / _TREE).exists():
        trees = {(): path / _VARIABLES, (_TRAINING,): path / _TRAINING}
    else:
        trees = {(): path}
    trees = {keys: tree for keys, tree in trees.items() if (tree / _TREE).is_file()}
    if (_TRAINING,) in trees and () not in trees:
        raise damaged(path, FileNotFoundError(f"{_VARIABLES}/{_TREE} is missing"))
    if not trees:
        files = sorted(child.name for child in path.iterdir())[:5] if path.is_dir() else []
        raise refused(
            path,
            f"holds no Orbax checkpoint, but {', '.join(files) or 'nothing'}",
            f"give a file in it, or another directory; {FORMATS}",
        )
    arrays: dict[ArrayPath, np.ndarray] = {}
    settings: dict[ArrayPath, Any] = {}
    try:
        for keys, tree in trees.items():
            _read_tree(tree, keys, arrays, settings)
        metadata = _read_metadata(path / _METADATA / _METADATA)
    except (InputError, PermissionError, MemoryError):
        raise
    except Exception as error:  # TensorStore raises ValueError alone, damaged JSON nearly all
        raise damaged(path, error) from error
    return Contents("Orbax", arrays, settings, metadata)


def is_checkpoint(path: Path) -> bool:
    """Returns whether this is one Orbax checkpoint, which holds nothing else."""
    places = (path / "_CHECKPOINT_METADATA", path / _TREE, path / _VARIABLES / _TREE)
    return any(place.is_file() for place in places)


def save_orbax(path: Path, variables: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Writes one checkpoint as the training does, with metadata instead of its other items.

    Args:
      path: The directory, which must not exist.
      variables: Nested dictionaries of arrays.
      metadata: Text by name.

    Raises:
      InputError: An array is empty, which Orbax cannot write.
      OSError: Writing failed.
    """
    import orbax.checkpoint as ocp  # takes half a second, and reading does not need it

    _check_not_empty(variables, ())
    items = {
        _VARIABLES: ocp.args.StandardSave(variables),
        _METADATA: ocp.args.JsonSave(dict(metadata)),
    }
    silenced = logging.root.manager.disable
    logging.disable(logging.ERROR)  # Orbax logs each thread's failure, and then raises one
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(path.absolute(), args=ocp.args.Composite(**items))
    finally:
        logging.disable(silenced)


def _check_not_empty(tree: Any, keys: ArrayPath) -> None:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            _check_not_empty(value, (*keys, key))
    elif np.size(tree) == 0:
        raise InputError(
            f"{'/'.join(keys)} of shape {np.shape(tree)} is empty, which Orbax cannot write; "
            "leave it out, or write a .safetensors file"
        )


def finished_checkpoints(path: Path) -> list[Path]:
    """Returns the checkpoints of a work directory, or of its directory of checkpoints.

    Args:
      path: The directory.

    Returns:
      Those that are written to their end, the newest first.
    """
    if (path / _CHECKPOINTS).is_dir():
        path = path / _CHECKPOINTS
    if not path.is_dir():
        return []
    # An unfinished checkpoint has more than digits in its name until everything is written.
    steps = [child for child in path.iterdir() if child.name.isdecimal() and child.is_dir()]
    return sorted(steps, key=lambda child: int(child.name), reverse=True)


def newest_checkpoint(path: Path) -> Path:
    """Returns the newest checkpoint of a work directory, or of its directory of checkpoints.

    Args:
      path: The directory. Any other path is returned as it is.
    """
    return path if is_checkpoint(path) else next(iter(finished_checkpoints(path)), path)


def _read_tree(
    tree: Path,
    prefix: ArrayPath,
    arrays: dict[ArrayPath, np.ndarray],
    settings: dict[ArrayPath, Any],
) -> None:
    import tensorstore

    description = json.loads((tree / _TREE).read_text())
    stores: dict[ArrayPath, tensorstore.TensorStore] = {}
    for entry in description["tree_metadata"].values():
        keys = tuple(str(key["key"]) for key in entry["key_metadata"])
        kind = entry["value_metadata"]["value_type"]
        if kind == "None":
            settings[(*prefix, *keys)] = None
        elif kind not in _EMPTY:
            spec = _spec(tree, ".".join(keys), bool(description.get("use_zarr3")))
            store = tensorstore.open(spec, open=True, read=True).result()
            stores[(*prefix, *keys)] = store
    claimed = sum(store.size * store.dtype.numpy_dtype.itemsize for store in stores.values())
    on_disk = sum(file.stat().st_size for file in tree.rglob("*") if file.is_file())
    check_claim(tree, claimed, on_disk)
    for keys, store in stores.items():
        arrays[keys] = np.array(store.read().result())


def _spec(tree: Path, name: str, is_zarr3: bool) -> dict[str, Any]:
    folder = f"{tree.resolve()}/"
    store: dict[str, Any] = {"driver": "file", "path": f"{folder}{name}/"}
    if (tree / "manifest.ocdbt").exists():
        base = {"driver": "file", "path": folder}
        store = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
    return {
        "driver": "zarr3" if is_zarr3 else "zarr",
        "kvstore": store,
        "fill_missing_data_reads": False,  # a lost chunk is an error, not zeros
    }


def _read_metadata(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    metadata = json.loads(file.read_text())
    if not isinstance(metadata, dict):
        raise ValueError("metadata are no dictionary")
    return {name: value for name, value in metadata.items() if isinstance(value, str)}
