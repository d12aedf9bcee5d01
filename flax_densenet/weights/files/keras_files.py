"""Reads Keras weights in HDF5: `.h5` of Keras 2 and `.weights.h5` of Keras 3; needs h5py.

An HDF5 file can point to other files in three ways: links, virtual data sets, and raw data in
another file. Reading it must not read those, so each way is refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from flax_densenet.errors import InputError
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.files.contents import Contents, check_claim, damaged, refused

if TYPE_CHECKING:
    import h5py

_DEEPEST = 50
_MOST_DATASETS = 100_000
_SAVE_AGAIN = "save it again with model.save_weights(FILE) of Keras"


def read_keras(path: Path) -> Contents:
    """Reads Keras weights.

    Args:
      path: The file.

    Returns:
      Its arrays by their HDF5 path, without the ":0" of TensorFlow's names. Its settings are the
      attributes of the file and of "model_weights", by their path and name.

    Raises:
      InputError: h5py is not installed, or the file is damaged, points to other files or holds
        data that are not numbers.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise refused(
            path,
            "is an HDF5 file, and h5py is not installed",
            "pip install flax-densenet[keras]",
        ) from error
    try:
        with h5py.File(path, "r") as file:
            datasets: dict[ArrayPath, h5py.Dataset] = {}
            for keys, dataset in _datasets(path, file, ()):
                keys = (*keys[:-1], keys[-1].removesuffix(":0"))
                if keys in datasets:
                    raise refused(path, f"has two arrays called {'/'.join(keys)}", _SAVE_AGAIN)
                if len(datasets) == _MOST_DATASETS:
                    raise refused(path, f"holds over {_MOST_DATASETS:,} arrays", _SAVE_AGAIN)
                _check_dataset(path, dataset)
                datasets[keys] = dataset
            check_claim(path, sum(d.nbytes for d in datasets.values()), path.stat().st_size)
            arrays = {keys: _array(dataset) for keys, dataset in datasets.items()}
            settings = _attributes(file, ())
            if "model_weights" in file:
                settings |= _attributes(file["model_weights"], ("model_weights",))
    except InputError:
        raise
    except Exception as error:  # h5py raises nearly everything for a damaged file
        raise damaged(path, error) from error
    return Contents("Keras HDF5", arrays, settings, {})


def _datasets(
    path: Path, group: "h5py.Group", keys: ArrayPath
) -> "Iterator[tuple[ArrayPath, h5py.Dataset]]":
    import h5py

    if len(keys) > _DEEPEST:  # also ends groups that contain themselves
        raise refused(path, f"nests groups more than {_DEEPEST} deep", _SAVE_AGAIN)
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise refused(
                path,
                f"has a link under {'/'.join((*keys, name))}, which may point to another file",
                _SAVE_AGAIN,
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _datasets(path, item, (*keys, name))
        elif isinstance(item, h5py.Dataset):
            yield (*keys, name), item


def _check_dataset(path: Path, dataset: "h5py.Dataset") -> None:
    import h5py

    if dataset.is_virtual or dataset.external:
        raise refused(path, f"keeps {dataset.name} in another file", _SAVE_AGAIN)
    if dataset.dtype.kind not in "?biufc" and not _is_bfloat16(dataset):
        raise refused(path, f"holds {dataset.name} of {dataset.dtype}, not numbers", _SAVE_AGAIN)
    if dataset.shape is None:
        raise refused(path, f"holds {dataset.name} without a shape", _SAVE_AGAIN)
    # What was never written reads as zeros.
    if dataset.size and dataset.id.get_space_status() != h5py.h5d.SPACE_STATUS_ALLOCATED:
        raise refused(
            path, f"claims {dataset.nbytes:,} bytes of {dataset.name} that it lacks", _SAVE_AGAIN
        )


def _is_bfloat16(dataset: "h5py.Dataset") -> bool:
    """Returns whether Keras 3 wrote bfloat16: as named bytes, since HDF5 has no such dtype."""
    return dataset.dtype == np.dtype("V2") and dataset.attrs.get("dtype") == "bfloat16"


def _array(dataset: "h5py.Dataset") -> np.ndarray:
    array = np.asarray(dataset[()])
    if _is_bfloat16(dataset):
        return array.view(ml_dtypes.bfloat16)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _attributes(group: "h5py.Group", keys: ArrayPath) -> dict[ArrayPath, Any]:
    plain = {(*keys, name): _plain(value) for name, value in group.attrs.items()}
    return {keys: value for keys, value in plain.items() if value is not _NOT_PLAIN}


_NOT_PLAIN = object()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "?biufSO":
        items = [_plain(item) for item in value.reshape(-1).tolist()]
        return _NOT_PLAIN if _NOT_PLAIN in items else items
    if isinstance(value, np.generic) and value.dtype.kind in "?biufSU":
        return _plain(value.item())
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, bool | int | float | str) else _NOT_PLAIN
