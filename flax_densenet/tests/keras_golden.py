"""Files as Keras 2 and 3 themselves wrote them, and the logits that Keras computes with them.

`data/keras.json.gz` holds what tf_keras 2.21.0 and Keras 3.15.1 write: names, attributes, groups
and the description of the model. `make_keras_golden.py` writes it. The values of the weights are
left out: the names of layer and array alone decide them, so every file holds the same ones.
"""

import functools
import gzip
import io
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

DATA = Path(__file__).parent / "data" / "keras.json.gz"
BLOCKS, CLASSES, IMAGE_SIZE = (1, 1, 1, 1), 3, 64


@functools.cache
def golden() -> dict[str, Any]:
    """Returns {"logits": {variant: numbers}, "files": {name: file}}."""
    with gzip.open(DATA) as file:
        return json.load(file)


@functools.cache
def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the float32 weights of an array, such as "conv1_conv/kernel", exact in binary."""
    size = int(np.prod(shape))
    bits = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).integers(0, 2**12, size)
    numbers = (bits.reshape(shape) - 2**11) / 2**11  # in [-1, 1)
    leaf = name.rpartition("/")[2]
    if leaf in ("gamma", "moving_variance"):
        numbers = 1 + numbers / 2
    elif leaf == "kernel":
        numbers = numbers / 2 ** round(np.log2(np.sqrt(size / shape[-1])))
    array = numbers.astype(np.float32)
    array.setflags(write=False)  # it is shared
    return array


def images() -> np.ndarray:
    """Returns the images [2, 64, 64, 3] that the logits belong to, float64."""
    bits = np.random.Generator(np.random.PCG64(0)).integers(0, 2**8, (2, IMAGE_SIZE, IMAGE_SIZE, 3))
    return (bits - 2**7) / 2**6


def write(name: str, directory: Path, **changes: Any) -> Path:
    """Writes one of the files.

    Args:
      name: Such as "keras 3/application.weights.h5".
      directory: Where to.
      changes: Entries that are other than in the golden file.

    Returns:
      The file.
    """
    stored = golden()["files"][name] | changes
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for path, attributes in stored["groups"].items():
            group = file.require_group(path or "/")
            for key, value in attributes.items():
                group.attrs[key] = np.asarray(value, "S") if isinstance(value, list) else value
        for path, (weight, shape) in stored["arrays"].items():
            file[path] = values(weight, tuple(shape))
        if stored["model"] is not None and not name.endswith(".keras"):
            file.attrs["model_config"] = stored["model"]
    target = directory / name.rpartition("/")[2]
    if name.endswith(".keras"):
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("metadata.json", "{}")
            archive.writestr("config.json", stored["model"])
            archive.writestr("model.weights.h5", content.getvalue())
    else:
        target.write_bytes(content.getvalue())
    return target
