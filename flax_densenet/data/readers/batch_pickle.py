"""Pickled dictionaries of numbers, names and numpy arrays, read without running anything.

A pickle names functions that reading it calls. The few that a CIFAR batch names are replaced by the
stand-ins below; every other one is refused. NumPy's own are not called either, since arguments of a
forged pickle can make them read outside their memory.
"""

import io
import pickle
import re
from typing import Any

import numpy as np

from flax_densenet.data.readers.originals import damaged
from flax_densenet.errors import InputError


def read_pickle(file: str, content: bytes) -> dict[str, Any]:
    """Reads a pickled dictionary, written by Python 2 or 3.

    Args:
      file: What messages call it.
      content: The pickle.

    Returns:
      The dictionary, with its keys as text; strings of Python 2 among its values are bytes.

    Raises:
      InputError: The pickle is damaged, holds something else or names another function or class.
    """
    try:
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except InputError as error:
        raise InputError(f"{file} {error}") from None
    except Exception as error:  # damaged pickles raise nearly everything
        got = f"cannot be unpickled ({type(error).__name__}: {error})"
        raise damaged(file, got, "a whole pickle") from error
    if not isinstance(value, dict):
        raise damaged(file, f"holds a {type(value).__name__}", "a pickled dictionary")
    return {_text(key): _unwrapped(item) for key, item in value.items()}


class _DType:
    """Stands in for numpy.dtype, of which a batch has integers alone."""

    def __init__(self, code: str | bytes, *flags: object) -> None:
        if not re.fullmatch("[iu][1248]", _text(code)):
            raise ValueError(f"array of {_text(code)}")
        self.code = _text(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.code = _text(state[1]) + self.code  # byte order


class _Array:
    """Stands in for numpy.ndarray."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        flat = np.frombuffer(content, np.dtype(dtype.code))
        self.array = flat.reshape(shape, order="F" if is_fortran else "C")


def _reconstruct(*empty: object) -> _Array:
    """Stands in for the function of that name, which makes the array that the state then fills."""
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for codecs.encode, with which Python 3 writes bytes for Python 2."""
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in _STAND_INS:
            raise InputError(
                f"is a pickle that names {module_name}.{global_name}; wanted numbers, names and "
                "numpy arrays alone; nothing in it was run; get the file again from where you trust"
            )
        return _STAND_INS[module_name, global_name]


def _text(name: Any) -> str:
    return name.decode("latin1") if isinstance(name, bytes) else str(name)


def _unwrapped(value: Any) -> Any:
    return getattr(value, "array", None) if isinstance(value, _Array) else value
