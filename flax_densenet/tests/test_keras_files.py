"""Keras weights in HDF5, written here as Keras writes them."""

import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flax_densenet import InputError
from flax_densenet.weights.files import read_weights

_KERNEL = np.arange(12, dtype=np.float32).reshape(2, 2, 3, 1)


def _write_keras2(group: h5py.Group) -> None:
    group.attrs["layer_names"] = [b"conv1/conv", b"conv1/bn"]
    group.attrs["backend"] = b"tensorflow"
    group.attrs["keras_version"] = "2.15.0"
    conv = group.create_group("conv1/conv")
    conv.attrs["weight_names"] = [b"conv1/conv/kernel:0"]
    conv.create_dataset("conv1/conv/kernel:0", data=_KERNEL)
    group.create_group("conv1/bn").create_dataset("conv1/bn/gamma:0", data=np.ones(1, ">f4"))


def test_keras_2_weights_are_read(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"  # not the name decides
    with h5py.File(file, "w") as target:
        _write_keras2(target)
    contents = read_weights(file)
    assert contents.format == "Keras HDF5"
    assert set(contents.arrays) == {
        ("conv1", "conv", "conv1", "conv", "kernel"),
        ("conv1", "bn", "conv1", "bn", "gamma"),
    }
    np.testing.assert_array_equal(
        contents.arrays["conv1", "conv", "conv1", "conv", "kernel"], _KERNEL
    )
    assert contents.arrays["conv1", "bn", "conv1", "bn", "gamma"].dtype == np.float32
    assert contents.settings == {
        ("layer_names",): ["conv1/conv", "conv1/bn"],
        ("backend",): "tensorflow",
        ("keras_version",): "2.15.0",
        ("conv1", "conv", "weight_names"): ["conv1/conv/kernel:0"],
    }


def test_a_whole_keras_2_model_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as target:
        target.attrs["model_config"] = '{"class_name": "Functional"}'
        _write_keras2(target.create_group("model_weights"))
        target.create_dataset("optimizer_weights/iterations:0", data=3)
    contents = read_weights(tmp_path / "x.h5")
    assert ("model_weights", "conv1", "conv", "conv1", "conv", "kernel") in contents.arrays
    assert contents.arrays["optimizer_weights", "iterations"] == 3
    assert contents.settings[("model_config",)] == '{"class_name": "Functional"}'
    assert contents.settings["model_weights", "backend"] == "tensorflow"


def test_keras_3_weights_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.weights.h5", "w") as target:
        target.create_dataset("layers/conv2d/vars/0", data=_KERNEL, compression="gzip")
        half = target.create_dataset("layers/dense/vars/0", data=np.ones(2, ml_dtypes.bfloat16))
        half.attrs["dtype"] = "bfloat16"
        target.create_group("layers/pool/vars")
    contents = read_weights(tmp_path / "x.weights.h5")
    np.testing.assert_array_equal(contents.arrays["layers", "conv2d", "vars", "0"], _KERNEL)
    assert contents.settings["layers", "pool", "vars"] is None
    dense = contents.arrays["layers", "dense", "vars", "0"]
    assert dense.dtype == ml_dtypes.bfloat16 and dense.tolist() == [1, 1]


_keys = st.text("abc01_", min_size=1, max_size=3)
_arrays = hnp.arrays(
    st.sampled_from(["<f2", "<f4", "<f8", "<i8", "u1", "?"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


@given(st.dictionaries(st.tuples(_keys, _keys), _arrays, max_size=4))
@settings(max_examples=30, deadline=None, database=None)
def test_what_is_written_is_read_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[tuple[str, str], np.ndarray]
) -> None:
    file = tmp_path_factory.mktemp("x") / "x.h5"
    with h5py.File(file, "w") as target:
        for keys, array in arrays.items():
            target.create_dataset("/".join(keys), data=array)
    read = read_weights(file).arrays
    assert read.keys() == arrays.keys()
    for keys, array in arrays.items():
        assert read[keys].dtype == array.dtype and read[keys].shape == array.shape
        assert read[keys].tobytes() == array.tobytes()


def _soft_link(file: h5py.File) -> None:
    file["a"] = h5py.SoftLink("/b")


def _external_link(file: h5py.File) -> None:
    file["a"] = h5py.ExternalLink("/etc/other.h5", "/b")


def _external_data(file: h5py.File) -> None:
    file.create_dataset("a", shape=(4,), dtype="u1", external=[("/etc/passwd", 0, 4)])


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "b", (4,))
    file.create_virtual_dataset("a", layout)


def _texts(file: h5py.File) -> None:
    file["a"] = ["x", "y"]


def _bytes(file: h5py.File) -> None:
    file["a"] = np.array([b"x", b"y"])


def _opaque(file: h5py.File) -> None:
    file["a"] = np.zeros(3, "V4")


def _shapeless(file: h5py.File) -> None:
    file["a"] = h5py.Empty("f4")


def _never_written(file: h5py.File) -> None:
    file.create_dataset("a", shape=(2**38,), dtype="f4", chunks=(2**20,), compression="gzip")


def _partly_written(file: h5py.File) -> None:
    file.create_dataset("a", shape=(10,), dtype="f4", chunks=(5,))[:5] = 1


def _same_name(file: h5py.File) -> None:
    file["a"], file["a:0"] = np.ones(2), np.ones(2)


def _inside_itself(file: h5py.File) -> None:
    file.create_group("a")["b"] = file["/"]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_soft_link, "a link under a, which may point to another file"),
        (_external_link, "a link under a, which may point to another file"),
        (_external_data, "keeps /a in another file"),
        (_virtual, "keeps /a in another file"),
        (_texts, "holds /a of object, not numbers"),
        (_bytes, r"holds /a of \|S1, not numbers"),
        (_opaque, r"holds /a of \|V4, not numbers"),
        (_shapeless, "holds /a without a shape"),
        (_never_written, "claims 1,099,511,627,776 bytes of /a that it lacks"),
        (_partly_written, "claims 40 bytes of /a that it lacks"),
        (_same_name, "two arrays called a"),
        (_inside_itself, "more than 50 deep"),
    ],
)
def test_what_is_not_weights_in_this_file_is_refused(
    tmp_path: Path, write: Any, message: str
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write(file)
    with pytest.raises(InputError, match=message) as caught:
        read_weights(tmp_path / "x.h5")
    assert str(caught.value).isprintable()


def test_arrays_that_unpack_to_absurd_sizes_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        array = file.create_dataset("a", data=np.zeros(2**20), compression="gzip")
        for index in range(200):
            file[f"a{index}"] = array
    with pytest.raises(InputError, match="claims 1,686,110,208 bytes of arrays"):
        read_weights(tmp_path / "x.h5")


def test_every_cut_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "whole", "w") as file:
        _write_keras2(file)
    content = (tmp_path / "whole").read_bytes()
    for size in range(0, len(content), 97):
        (tmp_path / "x.h5").write_bytes(content[:size])
        with pytest.raises(InputError):
            read_weights(tmp_path / "x.h5")


def test_without_h5py_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        _write_keras2(file)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install flax-densenet\[keras\]"):
        read_weights(tmp_path / "x.h5")


def _archive(path: Path, compression: int = zipfile.ZIP_STORED) -> None:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/conv2d/vars/0"] = _KERNEL
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("config.json", '{"class_name": "Functional"}')
        archive.writestr("model.weights.h5", content.getvalue())


def test_an_archive_is_read(tmp_path: Path) -> None:
    _archive(tmp_path / "x.pth")  # not the name decides
    contents = read_weights(tmp_path / "x.pth")
    assert contents.format == "Keras archive"
    np.testing.assert_array_equal(contents.arrays["layers", "conv2d", "vars", "0"], _KERNEL)
    assert contents.settings["model_config",] == '{"class_name": "Functional"}'


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_keras_does_not_write_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.keras"
    _archive(file, zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="archive with compressed or encrypted members"):
        read_weights(file)
    _archive(file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(InputError, match="two members of one name"):
        read_weights(file)
    _archive(file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.infolist()[0].file_size = 2**40
        archive.writestr("x", b"")
    with pytest.raises(InputError, match="claims members larger than itself"):
        read_weights(file)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.keras"
    _archive(file)
    content = file.read_bytes()
    middle = content.index(_KERNEL.tobytes())
    file.write_bytes(content[:middle] + b"\xff" + content[middle + 1 :])
    with pytest.raises(InputError, match=r"is damaged or cut off .*CRC"):
        read_weights(file)
    file.write_bytes(content[:-9])
    with pytest.raises(InputError):
        read_weights(file)


@pytest.mark.parametrize("metadata", ["[1]", "{", '{"config": 3}', 7])
def test_damaged_metadata_of_ours_are_none(tmp_path: Path, metadata: Any) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        _write_keras2(file)
        file.attrs["flax_densenet"] = metadata
    assert read_weights(tmp_path / "x.h5").metadata == {}
