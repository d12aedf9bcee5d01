"""Weights in safetensors, without PyTorch."""

import json
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flax_densenet import InputError
from flax_densenet.errors import SavingFailed
from flax_densenet.weights.files import read_weights, write_safetensors

_DTYPES = ["?", "u1", "i1", "<u2", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", "<c8", ">f4"]
_NAMES = st.text(min_size=1).filter(lambda name: name != "__metadata__")


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of any shape with any bits, NaN of every kind among them."""
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    dtype = draw(st.sampled_from([*map(np.dtype, _DTYPES), np.dtype(ml_dtypes.bfloat16)]))
    if dtype.kind == "b":
        return draw(hnp.arrays(dtype, shape))
    size = int(np.prod(shape)) * dtype.itemsize
    content = draw(st.binary(min_size=size, max_size=size))
    return np.ndarray(shape, dtype, content)


@given(st.dictionaries(_NAMES, arrays(), max_size=4), st.dictionaries(st.text(), st.text()))
@settings(max_examples=40, deadline=None, database=None)
def test_what_is_written_is_read_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any], metadata: dict[str, str]
) -> None:
    file = tmp_path_factory.mktemp("x") / "weights"
    write_safetensors(file, given, metadata, overwrite=False)
    contents = read_weights(file)
    assert contents.format == "safetensors"
    assert contents.metadata == metadata
    assert contents.settings == {}
    assert contents.arrays.keys() == {(name,) for name in given}
    for name, array in given.items():
        read = contents.arrays[(name,)]
        assert read.dtype == array.dtype.newbyteorder("=") and read.shape == array.shape
        assert read.tobytes() == array.astype(read.dtype).tobytes()


def test_neither_reading_nor_writing_needs_torch(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, ml_dtypes\n"
        "from flax_densenet.weights.files import read_weights, write_safetensors\n"
        "array = np.arange(3).astype(ml_dtypes.bfloat16)\n"
        f"write_safetensors({str(tmp_path / 'x')!r}, {{'a': array}}, {{}}, overwrite=False)\n"
        f"print(read_weights({str(tmp_path / 'x')!r}).arrays['a',])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "[0 1 2]\n", result.stderr


def _entry(dtype: str, shape: list[int], *offsets: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


_HEADERS: dict[str, tuple[str, int, str]] = {
    "duplicate": (
        '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        '"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        8,
        "two entries called 'a'",
    ),
    "overlap": (
        json.dumps({"a": _entry("F32", [2], 0, 8), "b": _entry("F32", [2], 4, 12)}),
        12,
        "damaged",
    ),
    "hole": (
        json.dumps({"a": _entry("F32", [1], 0, 4), "b": _entry("F32", [1], 8, 12)}),
        12,
        "damaged",
    ),
    "wrong size": (json.dumps({"a": _entry("F32", [3], 0, 8)}), 8, "damaged"),
    "negative shape": (json.dumps({"a": _entry("F32", [-2, -1], 0, 8)}), 8, "damaged"),
    "absurd shape": (json.dumps({"a": _entry("F32", [2**62, 4], 0, 8)}), 8, "damaged"),
    "cut off": (json.dumps({"a": _entry("F32", [2], 0, 8)}), 5, "is cut off: 5 bytes of arrays"),
    "too long": (json.dumps({"a": _entry("F32", [2], 0, 8)}), 9, "damaged"),
    "F8": (json.dumps({"w": _entry("F8_E4M3", [2], 0, 2)}), 2, "holds 'w' in the dtype F8_E4M3"),
    "F4": (json.dumps({"w": _entry("\x1b[2J", [2], 0, 2)}), 2, "in the dtype ?[2J"),
    "no dtype": ('{"a":{"shape":[1],"data_offsets":[0,4]}}', 4, "does not describe 'a'"),
    "no offsets": ('{"a":{"dtype":"F32","shape":[1],"data_offsets":{}}}', 4, "no offsets for 'a'"),
    "no dictionary": ('{"a":3}', 0, "does not describe 'a'"),
    "metadata": ('{"__metadata__":{"a":3}}', 0, "metadata that is not text"),
    "no JSON": ('{"a":', 0, "damaged"),
    "deep": ('{"a":' + "[" * 100_000, 0, "damaged"),
}


@pytest.mark.parametrize("name", _HEADERS)
def test_a_wrong_header_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    header, size, message = _HEADERS[name]
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(size))
    with pytest.raises(InputError) as caught:
        read_weights(file)
    assert message in str(caught.value)
    assert str(caught.value).isprintable() and f"{file} (" in str(caught.value)


@pytest.mark.parametrize("length", [2**63, 2**40, 100_000_001, 1000])
def test_an_absurd_length_of_the_header_is_refused(tmp_path: Path, length: int) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", length) + b'{"a":{}}')
    with pytest.raises(InputError, match=f"header of {length:,} bytes"):
        read_weights(file)


def test_every_cut_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    write_safetensors(whole, {"a": np.arange(5, dtype=np.float32)}, {"b": "c"}, overwrite=False)
    content = whole.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for size in range(len(content)):
        cut.write_bytes(content[:size])
        with pytest.raises(InputError):
            read_weights(cut)


def test_a_target_is_replaced_only_if_asked(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_text("mine")
    with pytest.raises(InputError, match=r"already there.*--overwrite"):
        write_safetensors(file, {"a": np.ones(2)}, {}, overwrite=False)
    assert file.read_text() == "mine"
    write_safetensors(file, {"a": np.ones(2)}, {}, overwrite=True)
    assert read_weights(file).arrays.keys() == {("a",)}
    assert list(tmp_path.iterdir()) == [file]


def test_the_file_behind_a_link_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_safetensors(tmp_path / "link", {"a": np.ones(2)}, {}, overwrite=False)
    write_safetensors(tmp_path / "link", {"b": np.ones(2)}, {}, overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert read_weights(tmp_path / "link").arrays.keys() == {("b",)}


@pytest.mark.parametrize(
    ("name", "array"),
    [("a", np.array(["x"])), ("a", np.ones(2, np.complex128)), ("__metadata__", np.ones(2))],
)
def test_what_the_format_lacks_is_refused(tmp_path: Path, name: str, array: np.ndarray) -> None:
    with pytest.raises(InputError, match=f"^{name} .* cannot be written"):
        write_safetensors(tmp_path / "x", {name: array}, {}, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_not_replaced_nor_created(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file, so it is not replaced"):
        write_safetensors(tmp_path, {}, {}, overwrite=True)
    with pytest.raises(InputError, match="is no directory; create it"):
        write_safetensors(tmp_path / "a" / "b", {}, {}, overwrite=True)


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path, full_disk: Any) -> None:
    file = tmp_path / "x.safetensors"
    file.write_text("mine")
    with full_disk(), pytest.raises(SavingFailed, match=r"cannot be written .*too large"):
        write_safetensors(file, {"a": np.ones(10_000)}, {}, overwrite=True)
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
