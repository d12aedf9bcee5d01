"""Writes weight files of every format, whole or not at all."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flax_densenet.errors import InputError
from flax_densenet.files import directory_written_whole, written_whole
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.files.keras_save import save_keras
from flax_densenet.weights.files.orbax_files import is_checkpoint, save_orbax
from flax_densenet.weights.files.safetensors_files import save_safetensors
from flax_densenet.weights.files.torch_files import save_torch


def write_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], *, overwrite: bool
) -> None:
    """Writes a safetensors file.

    Args:
      path: The file; a link is followed.
      arrays: Arrays by name.
      metadata: Text by name, for the header.
      overwrite: Whether to replace a file that is there.

    Raises:
      InputError: The target is there or its directory is not, or an array cannot be written.
      SavingFailed: Writing failed; what was there is untouched.
    """
    with written_whole(Path(path), overwrite=overwrite) as unfinished:
        save_safetensors(unfinished, arrays, metadata)


def write_keras(
    path: Path,
    arrays: Mapping[ArrayPath, np.ndarray],
    attributes: Mapping[ArrayPath, Mapping[str, Any]],
    metadata: Mapping[str, str],
    *,
    overwrite: bool,
) -> None:
    """Writes Keras weights in HDF5.

    Args:
      path: The file; a link is followed.
      arrays: Arrays by their path in it.
      attributes: Text or lists of texts by name, for each group by its path.
      metadata: Text by name, which Keras does not read.
      overwrite: Whether to replace a file that is there.

    Raises:
      InputError: h5py is not installed, the target is there or its directory is not, or an array
        cannot be written.
      SavingFailed: Writing failed; what was there is untouched.
    """
    with written_whole(Path(path), overwrite=overwrite) as unfinished:
        save_keras(unfinished, arrays, attributes, metadata)


def write_torch(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    *,
    overwrite: bool,
    around: Callable[[dict[str, Any]], Any] | None = None,
) -> None:
    """Writes a PyTorch state dict, which `torch.load(weights_only=True)` reads.

    Args:
      path: The file; a link is followed.
      arrays: Arrays by name.
      overwrite: Whether to replace a file that is there.
      around: Returns what is written, from the tensors by name; the state dict alone if not given.

    Raises:
      InputError: PyTorch is not installed, the target is there or its directory is not, or an array
        cannot be written.
      SavingFailed: Writing failed; what was there is untouched.
    """
    with written_whole(Path(path), overwrite=overwrite) as unfinished:
        with unfinished.open("xb") as file:
            save_torch(file, arrays, around)


def write_orbax(
    path: Path, variables: Mapping[str, Any], metadata: Mapping[str, str], *, overwrite: bool
) -> None:
    """Writes a directory with one Orbax checkpoint.

    Args:
      path: The directory, which is created; a link is followed.
      variables: Nested dictionaries of arrays.
      metadata: Text by name.
      overwrite: Whether to replace a checkpoint that is there; another directory never is.

    Raises:
      InputError: The target is there or its parent is not, or an array cannot be written.
      SavingFailed: Writing failed; what was there is untouched.
    """
    path = Path(path)
    with directory_written_whole(
        path, overwrite=overwrite, check_replaced=partial(_check_is_checkpoint, path)
    ) as unfinished:
        save_orbax(unfinished, variables, metadata)


def _check_is_checkpoint(path: Path, target: Path) -> None:
    if not (target.is_dir() and is_checkpoint(target)):
        raise InputError(
            f"{path} is there and is no Orbax checkpoint, so it is not replaced; give another name"
        )
