"""Reads Keras files: `.h5`, `.weights.h5`, and the `.keras` archives that hold one; needs h5py.

An HDF5 file can point to other files in three ways: links, virtual data sets, and raw data in
another file. Reading it must not read those, so each way is refused.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from flax_densenet.errors import InputError
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.files.contents import (
    COPY_AGAIN,
    Contents,
    check_claim,
    check_members,
    damaged,
    refused,
)

if TYPE_CHECKING:
    import h5py

_DEEPEST = 50
_MOST_DATASETS = 100_000
_MOST_GROUPS = 100_000
_SAVE_AGAIN = "save it again with model.save_weights(FILE) of Keras"
_SAVE_WHOLE = "save it again with model.save(FILE) of Keras"
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"  # members of an archive
OWN_ATTRIBUTE = "flax_densenet"  # of the file, with what this package says beside the weights


def is_keras_archive(path: Path) -> bool:
    """Returns whether a zip archive is what model.save of Keras 3 writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {_CONFIG, _WEIGHTS} <= set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def read_keras_archive(path: Path) -> Contents:
    """Reads a `.keras` archive: the weights in it, and its model as the setting "model_config".

    Args:
      path: The archive, for which `is_keras_archive` is true.

    Returns:
      What `read_keras` returns for the weights.

    Raises:
      InputError: h5py is not installed, or the archive is damaged, compressed, points to other
        files or holds data that are not numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len({member.filename for member in members}) < len(members):
                raise refused(path, "has two members of one name", COPY_AGAIN)
            check_members(
                path, members, kind="a .keras archive", writer="Keras", remedy=_SAVE_WHOLE
            )
            config, weights = archive.read(_CONFIG), archive.read(_WEIGHTS)
    except zipfile.BadZipFile as error:
        raise damaged(path, error) from error
    except (ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, error) from error
    contents = _read(path, io.BytesIO(weights), len(weights))
    settings = contents.settings | {("model_config",): config.decode("utf-8", "replace")}
    return contents._replace(format="Keras archive", settings=settings)


def read_keras(path: Path) -> Contents:
    """Reads Keras weights.

    Args:
      path: The file.

    Returns:
      Its arrays by their HDF5 path, without the ":0" of TensorFlow's names. Its settings are the
      attributes of all groups by path and name, and None for each group that has nothing in it.

    Raises:
      InputError: h5py is not installed, or the file is damaged, points to other files or holds
        data that are not numbers.
    """
    return _read(path, path, path.stat().st_size)


def _read(path: Path, source: Path | IO[bytes], size: int) -> Contents:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise refused(
            path,
            "is an HDF5 file, and h5py is not installed",
            "pip install flax-densenet[keras]",
        ) from error
    try:
        with h5py.File(source, "r") as file:
            datasets: dict[ArrayPath, h5py.Dataset] = {}
            groups: dict[ArrayPath, h5py.Group] = {}
            for keys, item in _items(path, file, ()):
                if isinstance(item, h5py.Group):
                    if len(groups) == _MOST_GROUPS:
                        raise refused(path, f"holds over {_MOST_GROUPS:,} groups", _SAVE_AGAIN)
                    groups[keys] = item
                    continue
                keys = (*keys[:-1], keys[-1].removesuffix(":0"))
                if keys in datasets:
                    raise refused(path, f"has two arrays called {'/'.join(keys)}", _SAVE_AGAIN)
                if len(datasets) == _MOST_DATASETS:
                    raise refused(path, f"holds over {_MOST_DATASETS:,} arrays", _SAVE_AGAIN)
                _check_dataset(path, item)
                datasets[keys] = item
            check_claim(path, sum(d.nbytes for d in datasets.values()), size)
            arrays = {keys: _array(dataset) for keys, dataset in datasets.items()}
            settings: dict[ArrayPath, Any] = {}
            for keys, group in groups.items():
                if not len(group):
                    settings[keys] = None
                settings |= _attributes(group, keys)
    except InputError:
        raise
    except Exception as error:  # h5py raises nearly everything for a damaged file
        raise damaged(path, error) from error
    metadata = _own_metadata(settings.pop((OWN_ATTRIBUTE,), None))
    return Contents("Keras HDF5", arrays, settings, metadata)


def _own_metadata(text: Any) -> dict[str, str]:
    """Returns what this package wrote beside the weights."""
    try:
        record = json.loads(text or "{}")
    except (TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(record, dict):
        return {}
    return {key: value for key, value in record.items() if isinstance(value, str)}


def _items(
    path: Path, group: "h5py.Group", keys: ArrayPath
) -> "Iterator[tuple[ArrayPath, h5py.Group | h5py.Dataset]]":
    """Yields every group, from the outermost one, and every dataset."""
    import h5py

    if len(keys) > _DEEPEST:  # also ends groups that contain themselves
        raise refused(path, f"nests groups more than {_DEEPEST} deep", _SAVE_AGAIN)
    yield keys, group
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise refused(
                path,
                f"has a link under {'/'.join((*keys, name))}, which may point to another file",
                _SAVE_AGAIN,
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _items(path, item, (*keys, name))
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
    """Returns whether numbers are bfloat16: bytes, since HDF5 has no such type.

    Keras has no other type that it writes as two bytes. Only `.weights.h5` of Keras 3 names it.
    """
    return dataset.dtype == np.dtype("V2") and dataset.attrs.get("dtype", "bfloat16") == "bfloat16"


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
