"""What PyTorch's safe unpickler may meet in training checkpoints beyond tensors and dictionaries.

Training scripts also store numbers of NumPy, the arguments of the program, paths and dictionaries
with defaults. The unpickler is given stand-ins for these, written here in Python: they keep what
they get, look at it, and call nothing that a file names. NumPy's own functions are not used, since
forged arguments make them read outside their memory; nor are the real classes.
"""

import re
from typing import Any

import numpy as np


class NotData(Exception):
    """A stand-in got what it does not accept."""


class Kept:
    """Stands in for a class of which only the state matters: argparse.Namespace."""

    content: Any = None

    def __setstate__(self, state: Any) -> None:
        self.content = state if isinstance(state, dict) else None


class _DType:
    """Stands in for numpy.dtype, of which numbers are accepted."""

    def __init__(self, code: str, *flags: object) -> None:
        if not re.fullmatch("b1|[iu][1248]|f[248]|c8|c16", code):
            raise NotData(f"NumPy data of {code}")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|"):
            raise NotData(f"NumPy data of the byte order {state[1]}")
        self.code = state[1] + self.code


class _Array(Kept):
    """Stands in for numpy.ndarray."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        self.content = _from_bytes(content, dtype, shape, "F" if is_fortran else "C")


def _reconstruct(*empty: object) -> _Array:
    """Stands in for the function of that name, which makes the array that the state then fills."""
    return _Array()


def _scalar(dtype: _DType, content: bytes) -> bool | int | float | complex:
    """Stands in for the function that makes a NumPy scalar; a number of Python will do."""
    return _from_bytes(content, dtype, (), "C").item()


def _from_bytes(content: bytes, dtype: _DType, shape: tuple[int, ...], order: Any) -> np.ndarray:
    kind = np.dtype(dtype.code)
    if len(content) != int(np.prod(shape, dtype=object)) * kind.itemsize:
        raise NotData("NumPy data of another length than its shape says")
    array = np.ndarray(shape, kind, bytes(content), order=order)
    return array.astype(kind.newbyteorder("="), order="C")


def _path(*parts: str) -> str:
    """Stands in for the classes of pathlib."""
    return "/".join(map(str, parts))


def _default_dict(*factory: object) -> dict[Any, Any]:
    """Stands in for collections.defaultdict, whose factory is not called."""
    return {}


def _no_bytes() -> bytes:
    """Stands in for bytes, which pickles call where there are none."""
    return b""


class _Factory:
    """Stands in for the factory of a defaultdict."""

    def __new__(cls, *arguments: object) -> Any:
        raise NotData("a call of a class that only a defaultdict may name")


def stand_ins() -> list[Any]:
    """Returns (stand-in, full name) for every name that the unpickler may meet beyond its own."""
    named: list[Any] = [
        (Kept, "argparse.Namespace"),
        (_DType, "numpy.dtype"),
        (_Array, "numpy.ndarray"),
        (_default_dict, "collections.defaultdict"),
        (_no_bytes, "builtins.bytes"),
    ]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        named += [(_reconstruct, f"{module}._reconstruct"), (_scalar, f"{module}.scalar")]
    for factory in ("dict", "list", "int", "float"):
        named.append((_Factory, f"builtins.{factory}"))
    for module in ("pathlib", "pathlib._local"):
        for system in ("Posix", "Windows", "PurePosix", "PureWindows"):
            named.append((_path, f"{module}.{system}Path"))
    return named
