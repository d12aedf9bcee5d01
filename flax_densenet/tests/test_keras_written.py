"""Keras files that this package writes are those that Keras writes, group by group."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

from flax_densenet import InputError
from flax_densenet.cli.main import main
from flax_densenet.tests import keras_golden
from flax_densenet.tests.tiny_checkpoints import IMAGENET, write_torchvision
from flax_densenet.weights.files.write import write_keras
from flax_densenet.weights.load import load_checkpoint


def convert(source: Path, target: Path, *flags: str) -> None:
    assert main(["convert", str(source), str(target), "--no_verify", *flags]) == 0


def read(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the attributes of every group, and the arrays."""
    groups: dict[str, Any] = {}
    arrays: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name.removesuffix(":0")] = item[()]
        else:
            groups[name] = {key: plain(value) for key, value in item.attrs.items()}

    with h5py.File(file) as opened:
        visit("", opened)
        opened.visititems(visit)
    return groups, arrays


def plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [one.decode().removesuffix(":0") for one in value.tolist()]
    return value


@pytest.mark.parametrize(
    ("target", "flags", "golden"),
    [
        ("x.weights.h5", (), "keras 3/application.weights.h5"),
        ("x.h5", (), "keras 3/application.legacy.h5"),
        ("x.h5", ("--layout", "keras-2"), "keras 2/application.legacy.h5"),
    ],
)
def test_a_written_file_is_as_keras_writes_it(
    target: str, flags: tuple[str, ...], golden: str, tmp_path: Path
) -> None:
    """Keras loads it strictly, by the order of the layers' names or by the names of groups."""
    source = keras_golden.write("keras 3/application.keras", tmp_path)
    convert(source, tmp_path / target, *flags)
    theirs = keras_golden.write(golden, tmp_path)
    (groups, arrays), (right_groups, right_arrays) = read(tmp_path / target), read(theirs)
    ours = groups[""].pop("flax_densenet")
    assert '"growth_rate\\": 32' in ours
    for form in (groups, right_groups):
        for attribute in ("backend", "keras_version"):
            form[""].pop(attribute, None)
    inputs = {"input_1": "input_layer"}  # whose name Keras counts through the session
    right_groups = {inputs.get(name, name): value for name, value in right_groups.items()}
    if "layer_names" in right_groups[""]:
        names = right_groups[""]["layer_names"]
        right_groups[""]["layer_names"] = [inputs.get(name, name) for name in names]
    right_groups.get("vars", {}).pop("name", None)  # the model's
    assert groups == right_groups
    assert arrays.keys() == right_arrays.keys()
    for name, array in right_arrays.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_what_is_written_is_read_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = keras_golden.write("keras 3/epsilon.keras", tmp_path)
    convert(source, tmp_path / "x.weights.h5")
    assert (
        "note: x.weights.h5 cannot hold the 0.01 that the training of these weights added to "
        "variances, and keras.applications adds 1.001e-05; set the epsilon of every "
        "BatchNormalization to 0.01"
    ) in capsys.readouterr().out
    checkpoint = load_checkpoint(tmp_path / "x.weights.h5")
    assert checkpoint.config == load_checkpoint(source).config  # from our own attribute
    assert checkpoint.warnings == []
    written = (tmp_path / "x.weights.h5").read_bytes()
    convert(source, tmp_path / "x.weights.h5", "--overwrite")
    assert (tmp_path / "x.weights.h5").read_bytes() == written


def test_half_precision_is_written_as_keras_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = keras_golden.write("keras 3/application.keras", tmp_path)
    convert(source, tmp_path / "x.weights.h5", "--dtype", "bfloat16")
    with h5py.File(tmp_path / "x.weights.h5") as file:
        kernel = file["layers/conv2d/vars/0"]
        assert kernel.dtype == "V2" and kernel.attrs["dtype"] == "bfloat16"
        values = kernel[()].view(ml_dtypes.bfloat16)
    right = keras_golden.values("conv1_conv/kernel", (7, 7, 3, 64))
    np.testing.assert_array_equal(values, right.astype(ml_dtypes.bfloat16))
    arguments = ["convert", str(source), str(tmp_path / "x.h5"), "--dtype", "bfloat16"]
    assert main(arguments) != 0
    assert "bfloat16 cannot be in a .h5 file" in capsys.readouterr().err
    convert(source, tmp_path / "x.h5", "--dtype", "float16")
    with h5py.File(tmp_path / "x.h5") as file:
        kernel = file["conv1_conv/conv1_conv/kernel"]
        assert kernel.dtype == np.float16
        np.testing.assert_array_equal(kernel[()], right.astype(np.float16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {},
            "bottleneck is False, there True; growth_rate is 2, there 32; num_blocks is 2, "
            "there 4; compression is 1, there 0.5",
        ),
        ({"kernel_size": 5}, "kernel_size is 5, which it has not"),
    ],
)
def test_networks_that_keras_lacks_are_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(IMAGENET, **changes)
    source = tmp_path / "x.safetensors"
    write_torchvision(source, config)
    assert main(["convert", str(source), str(tmp_path / "x.h5"), "--no_verify"]) != 0
    error = capsys.readouterr().err
    assert "Keras applications, .h5, which cannot build DenseNet" in error
    assert message in error
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize(
    ("target", "layout", "message"),
    [
        ("x.weights.h5", "keras", "choose keras-3, or another ending"),
        ("x.h5", "keras-3", "choose keras or keras-2, or another ending"),
        ("x.h5", "torchvision", "choose keras or keras-2, or another ending"),
    ],
)
def test_a_layout_that_the_ending_does_not_have_is_refused(
    target: str, layout: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = keras_golden.write("keras 3/application.keras", tmp_path)
    arguments = ["convert", str(source), str(tmp_path / target), "--layout", layout]
    assert main(arguments) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / target).exists()


def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.h5"
    with pytest.raises(InputError, match=r"a/b \(int8\) cannot be written to a Keras file; conver"):
        write_keras(file, {("a", "b"): np.zeros(2, np.int8)}, {}, {}, overwrite=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"needs h5py; install flax-densenet\[keras\]"):
        write_keras(file, {("a",): np.zeros(2, np.float32)}, {}, {}, overwrite=False)
    assert not list(tmp_path.iterdir())
