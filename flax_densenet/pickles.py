"""Reads pickled numbers, names and NumPy arrays without running anything.

A pickle names functions and classes, which reading it calls. Here each name is looked up in a table
of stand-ins, and a name that is not in the table is refused. The stand-ins keep what they get,
check it, and call nothing that the file names. NumPy's own functions are not called either: forged
arguments make them read outside their memory.
"""

import io
import pickle
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

_BYTE_ORDERS = ("<", ">", "|")
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before and since NumPy 2


class NotData(Exception):
    """A stand-in got what it does not accept."""


class UnknownName(NotData):
    """A pickle names what is not in the table of stand-ins; the message is the name."""


class Kept:
    """Stands in for a class of which only the state matters.

    Attributes:
      content: The state; None if there was none, or none of the kind that is kept.
    """

    content: Any = None

    def __setstate__(self, state: Any) -> None:
        self.content = state if isinstance(state, dict) else None


class _DType:
    """Stands in for numpy.dtype.

    Attributes:
      accepted: Pattern of the codes that are accepted.
      code: Byte order, kind and size, such as "<f4".
    """

    accepted = ""

    def __init__(self, code: str | bytes, *flags: object) -> None:
        self.code = as_text(code)
        if not re.fullmatch(self.accepted, self.code):
            raise NotData(f"NumPy data of {self.code}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = as_text(state[1])
        if order not in _BYTE_ORDERS:
            raise NotData(f"NumPy data of the byte order {order}")
        self.code = order + self.code.lstrip("".join(_BYTE_ORDERS))


class _Array(Kept):
    """Stands in for numpy.ndarray; the content is an array of NumPy."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        self.content = _from_bytes(content, dtype, shape, "F" if is_fortran else "C")


def _reconstruct(*empty: object) -> _Array:
    """Stands in for the function of that name, which makes the array that the state then fills."""
    return _Array()


def _scalar(dtype: _DType, content: bytes | str) -> bool | int | float | complex:
    """Stands in for the function that makes a NumPy scalar; a number of Python will do."""
    return _from_bytes(content, dtype, (), "C").item()


def _from_bytes(
    content: bytes | str, dtype: _DType, shape: tuple[int, ...], order: Any
) -> np.ndarray:
    if isinstance(content, str):  # of Python 2, read as latin1
        content = content.encode("latin1")
    if not isinstance(dtype, _DType) or not isinstance(content, bytes | bytearray):
        raise NotData("NumPy data without a type or without bytes")
    kind = np.dtype(dtype.code)
    # Before there is an array: NumPy would believe the shape.
    if len(content) != int(np.prod(shape, dtype=object)) * kind.itemsize:
        raise NotData("NumPy data of another length than its shape says")
    array = np.ndarray(shape, kind, bytes(content), order=order)
    return array.astype(kind.newbyteorder("="), order="C")


def numpy_stand_ins(accepted: str) -> dict[str, Any]:
    """Returns the stand-ins for NumPy's names in pickled arrays and numbers.

    Args:
      accepted: Pattern of the types that arrays may have, as codes of NumPy without a byte order,
        such as "[iu][1248]" for integers.

    Returns:
      {full name: stand-in}. An array becomes a `Kept`, whose content is the array.
    """
    names: dict[str, Any] = {
        "numpy.dtype": type("_DType", (_DType,), {"accepted": accepted}),
        "numpy.ndarray": _Array,
    }
    for module in _MODULES:
        names |= {f"{module}._reconstruct": _reconstruct, f"{module}.scalar": _scalar}
    return names


def load_pickle(content: bytes, stand_ins: Mapping[str, Any]) -> Any:
    """Reads a pickle of Python 2 or 3; strings of Python 2 become bytes.

    Args:
      content: The pickle.
      stand_ins: {full name: what is called in its place}, for every name that it may contain.

    Raises:
      UnknownName: The pickle contains another name.
      Exception: Nearly any other, if it is damaged.
    """
    return _Unpickler(io.BytesIO(content), stand_ins).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, stand_ins: Mapping[str, Any]) -> None:
        super().__init__(file, encoding="bytes")
        self._stand_ins = stand_ins

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        if name not in self._stand_ins:
            raise UnknownName(name)
        return self._stand_ins[name]


def as_text(name: Any) -> str:
    """Returns a name in a pickle as text; Python 2 wrote bytes."""
    return name.decode("latin1") if isinstance(name, bytes) else str(name)
