"""Reads and writes safetensors: a header of JSON, then the bytes of the arrays.

The `safetensors` library checks that the arrays fill the file without gap or overlap. With NumPy it
knows no bfloat16, and of two equal names it takes the last. So the header is read here, too.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from flax_densenet.errors import InputError
from flax_densenet.weights.files.contents import COPY_AGAIN, Contents, damaged, refused

_DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}
_METADATA = "__metadata__"
_LENGTH = struct.Struct("<Q")
_LONGEST_HEADER = 100_000_000  # the library's own limit


def read_safetensors(path: Path) -> Contents:
    """Reads a safetensors file.

    Args:
      path: The file.

    Returns:
      Its arrays, each under a path of one name, and its metadata.

    Raises:
      InputError: The file is damaged, or an array has a dtype that NumPy and ml_dtypes lack.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        start = _LENGTH.size + length
        if length > _LONGEST_HEADER:
            raise refused(path, f"claims a safetensors header of {length:,} bytes", COPY_AGAIN)
        if start > size:
            raise refused(
                path, f"ends inside its safetensors header of {length:,} bytes", COPY_AGAIN
            )
        header, metadata = _header(path, file.read(length))
        _check_extent(path, header, size - start)
        try:
            with safetensors.safe_open(path, framework="np"):
                pass
        except safetensors.SafetensorError as error:
            raise damaged(path, error) from error
        arrays: dict[tuple[str, ...], np.ndarray] = {}
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
            array = np.empty(shape, dtype)
            file.seek(start + entry["data_offsets"][0])
            if array.size and file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
                raise refused(path, f"became shorter while {name!r} was read", "try again")
            arrays[(name,)] = array
    return Contents("safetensors", arrays, {}, metadata)


def save_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes a safetensors file, neither atomically nor with care for what was there.

    Args:
      path: The file.
      arrays: Arrays by name.
      metadata: Text by name.

    Raises:
      InputError: The format has no such dtype, or an array has the metadata's name.
      OSError: Writing failed.
    """
    kept: list[np.ndarray] = []  # the library gets addresses, so the arrays must live until then
    specs: dict[str, Any] = {}
    for name, given in arrays.items():
        if given.dtype.newbyteorder("<") not in _DTYPES.values() or name == _METADATA:
            raise InputError(
                f"{name} ({given.dtype}) cannot be written to safetensors, which has no such "
                "dtype or name; convert it first, or write a .pth file"
            )
        array = np.asarray(given, dtype=given.dtype.newbyteorder("<"), order="C")
        kept.append(array)
        specs[name] = safetensors.TensorSpec(
            dtype=array.dtype.name,
            shape=array.shape,
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
    try:
        safetensors.serialize_file(specs, path, dict(metadata) or None)
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from error


def _header(path: Path, content: bytes) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for name, value in pairs:
            if name in entries:
                raise refused(
                    path,
                    f"has two entries called {name!r} in its safetensors header",
                    "nobody can say which one is meant; get the file again from who made it",
                )
            entries[name] = value
        return entries

    try:
        header = json.loads(content.decode(), object_pairs_hook=unique)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise refused(path, "has metadata that is not text", COPY_AGAIN)
    return header, metadata


def _check_extent(path: Path, header: dict[str, dict[str, Any]], size: int) -> None:
    """Checks what the library would refuse, too, but in words that help less."""
    end = 0
    for name, entry in header.items():
        if not isinstance(entry, dict) or {"dtype", "shape", "data_offsets"} - entry.keys():
            raise refused(path, f"does not describe {name!r} in its safetensors header", COPY_AGAIN)
        if entry["dtype"] not in _DTYPES:
            raise refused(
                path,
                f"holds {name!r} in the dtype {entry['dtype']}",
                f"convert it where it was made to one of {', '.join(_DTYPES)}",
            )
        offsets = entry["data_offsets"]
        if not (isinstance(offsets, list) and [type(o) for o in offsets] == [int, int]):
            raise refused(path, f"has no offsets for {name!r}", COPY_AGAIN)
        end = max(end, *offsets)
    if end > size:
        why = f"is cut off: {size:,} bytes of arrays, and its header describes {end:,}"
        raise refused(path, why, COPY_AGAIN)
