"""Tests of flax_densenet/pickles.py: arrays are read, and forged ones are refused."""

import pickle
from typing import Any

import numpy as np
import pytest

from flax_densenet.pickles import NotData, UnknownName, load_pickle, numpy_stand_ins

NUMBERS = numpy_stand_ins("b1|[iu][1248]|f[248]|c8|c16")
INTEGERS = numpy_stand_ins("[iu][1248]")
BYTES = {  # as protocol 2 has them
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),
    "__builtin__.bytes": lambda: b"",
}

ARRAYS = [
    np.arange(6, dtype=">i4").reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.uint8).reshape(2, 3)),
    np.zeros((0, 3), np.int64),
    np.array(-(2**63)),
]


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_arrays_are_read_bit_for_bit(array: np.ndarray, protocol: int) -> None:
    kept = load_pickle(pickle.dumps(array, protocol), INTEGERS | BYTES)
    np.testing.assert_array_equal(kept.content, array, strict=False)
    assert kept.content.dtype == array.dtype.newbyteorder("=")
    assert kept.content.flags.c_contiguous and kept.content.flags.owndata


@pytest.mark.parametrize("number", [np.float16(0.5), np.bool_(True), np.complex64(1j)])
def test_scalars_become_numbers_where_their_type_is_accepted(number: np.generic) -> None:
    assert load_pickle(pickle.dumps(number), NUMBERS) == number.item()
    with pytest.raises(NotData, match=r"^NumPy data of [fbc]\d$"):
        load_pickle(pickle.dumps(number), INTEGERS)


class Forged:
    """Calls a name with arguments, and sets a state."""

    def __init__(self, function: Any, arguments: tuple[Any, ...], state: Any = None) -> None:
        self.reduced = (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


_MAKE = np.array([0]).__reduce__()[0]  # numpy's _reconstruct
_MADE = (np.ndarray, (0,), b"b")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Forged(_MAKE, _MADE, (1, (2**40,), np.dtype("u1"), False, b"abc")), "another length"),
        (Forged(_MAKE, _MADE, (1, (2**62, 4), np.dtype("i4"), False, b"")), "another length"),
        (Forged(_MAKE, _MADE, (1, (3,), "O", False, b"abc")), "without a type or without bytes"),
        (Forged(_MAKE, _MADE, (1, (3,), np.dtype("u1"), False, 2**40)), "or without bytes"),
        (Forged(np.dtype, ("i4",), (3, "?", None, None, None, -1, -1, 0)), "byte order \\?"),
        (np.array(["2020"], "M8[D]"), "NumPy data of M8"),
        (np.array([None]), "NumPy data of O8"),
        (np.zeros(1, "i4,i4"), "NumPy data of V8"),
    ],
)
def test_forged_arrays_are_refused_by_both_users(value: Any, message: str) -> None:
    content = pickle.dumps(value, 4)
    for names in (INTEGERS, NUMBERS):
        with pytest.raises(NotData, match=message):
            load_pickle(content, names)


def test_a_name_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"^builtins\.eval$"):
        load_pickle(pickle.dumps(eval), NUMBERS)
