"""Writes Keras weights in HDF5; needs h5py."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from flax_densenet.errors import InputError
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.files.keras_files import OWN_ATTRIBUTE

_DTYPES = ("float16", "bfloat16", "float32", "float64")


def save_keras(
    path: Path,
    arrays: Mapping[ArrayPath, np.ndarray],
    attributes: Mapping[ArrayPath, Mapping[str, Any]],
    metadata: Mapping[str, str],
) -> None:
    """Writes a file that `read_keras` reads; equal arrays give equal bytes.

    Args:
      path: The file.
      arrays: Arrays by their path.
      attributes: Text or lists of texts by name, for each group by its path.
      metadata: Text by name, of this package.

    Raises:
      InputError: h5py is not installed, or Keras has no such dtype.
      OSError: Writing failed.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise InputError(
            "writing Keras files needs h5py; install flax-densenet[keras], or write a "
            ".safetensors file"
        ) from error
    for keys, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise InputError(
                f"{'/'.join(keys)} ({array.dtype}) cannot be written to a Keras file; convert it "
                f"to one of {', '.join(_DTYPES)}"
            )
    content = io.BytesIO()  # h5py has other errors than OSError for a full disk
    with h5py.File(content, "w") as file:
        for keys, values in attributes.items():
            group = file.require_group("/".join(keys)) if keys else file
            for name, value in values.items():
                is_list = isinstance(value, list)
                group.attrs[name] = np.asarray(value, dtype="S") if is_list else value
        for keys, array in arrays.items():
            dataset = file.create_dataset("/".join(keys), data=array)
            if array.dtype == ml_dtypes.bfloat16:
                dataset.attrs["dtype"] = "bfloat16"
        file.attrs[OWN_ATTRIBUTE] = json.dumps(dict(metadata))
    with path.open("xb") as opened:
        opened.write(content.getbuffer())
