"""Tests of flax_densenet/weights/pretrained.py."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

import flax_densenet
from flax_densenet import InputError
from flax_densenet.network import variants
from flax_densenet.tests.tiny_checkpoints import (
    COLOR,
    GRAY,
    convert,
    write_images,
    write_torchvision,
)

KEY = jax.random.key(7)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a tiny network, which has a name here."""
    monkeypatch.setitem(variants.VARIANTS, "tiny", dataclasses.replace(COLOR, num_classes=10))
    write_torchvision(tmp_path / "tiny.safetensors", COLOR)
    return tmp_path / "tiny.safetensors"


def assert_equal(ours: Any, right: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, ours, right)


def test_load_gives_the_network_and_its_weights(file: Path) -> None:
    model, variables = flax_densenet.load(file)
    assert model.config == COLOR
    assert_equal(variables, flax_densenet.initialize(COLOR, jax.random.key(0)))
    assert isinstance(variables["params"]["conv0"]["kernel"], jax.Array)


def test_digits_that_jax_drops_are_told(file: Path, tmp_path: Path) -> None:
    convert(file, tmp_path / "wide.safetensors", "--dtype", "float64")
    with pytest.warns(UserWarning, match="are float64, and JAX takes them as float32"):
        _, variables = flax_densenet.load(tmp_path / "wide.safetensors")
    assert variables["params"]["conv0"]["kernel"].dtype == np.float32
    with jax.enable_x64(True):
        _, variables = flax_densenet.load(tmp_path / "wide.safetensors")
    assert variables["params"]["conv0"]["kernel"].dtype == np.float64


def test_create_draws_initial_weights() -> None:
    model, variables = flax_densenet.create("densenet-40-12", num_classes=7, in_channels=1, key=KEY)
    assert (model.config.num_classes, model.config.in_channels) == (7, 1)
    assert_equal(variables, flax_densenet.initialize(model.config, KEY))


def test_create_takes_classes_and_channels_of_the_weights(file: Path) -> None:
    model, variables = flax_densenet.create("tiny", weights=file)
    assert model.config == COLOR  # with its 3 classes
    assert_equal(variables, flax_densenet.load(file)[1])


def test_create_gives_other_classes_a_new_head(file: Path) -> None:
    model, variables = flax_densenet.create("tiny", num_classes=5, weights=file, key=KEY)
    _, before = flax_densenet.load(file)
    assert model.config.num_classes == 5
    assert variables["params"]["classifier"]["kernel"].shape[1] == 5
    _, again = flax_densenet.create("tiny", num_classes=5, weights=file, key=KEY)
    assert_equal(variables, again)
    _, other = flax_densenet.create("tiny", num_classes=5, weights=file, key=jax.random.key(8))
    heads = [tree["params"].pop("classifier")["kernel"] for tree in (variables, other)]
    assert np.any(heads[0] != heads[1])
    before["params"].pop("classifier")
    assert_equal(variables, before)


def test_create_adapts_the_first_convolution(file: Path) -> None:
    model, variables = flax_densenet.create("tiny", in_channels=1, weights=file)
    _, before = flax_densenet.load(file)
    assert model.config.in_channels == 1
    np.testing.assert_allclose(
        variables["params"]["conv0"]["kernel"],
        before["params"]["conv0"]["kernel"].sum(axis=2, keepdims=True),
        rtol=1e-6,
        atol=1e-7,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet50"}, r"name \(='resnet50'\) must be one of densenet-40-12, "),
        ({"name": "tiny"}, r"without weights draws initial ones, and key is not given; give key="),
        ({"name": "tiny", "key": KEY, "num_classes": 0}, r"num_classes \(=0\) must be an integer"),
        (
            {"name": "tiny", "weights": "FILE", "num_classes": 5},
            r"are for 3 classes and num_classes is 5, .* key is not given; give key=jax.random",
        ),
        (
            {"name": "tiny", "weights": "FILE", "in_channels": 4},
            r"in_channels \(=4\) cannot be had from weights for 3 channels",
        ),
        (
            {"name": "densenet-40-12", "weights": "FILE"},
            r"is DenseNet \(L=7, k=2\), where DenseNet \(L=40, k=12\) was asked for: .*load\(\)",
        ),
        ({"name": "tiny", "weights": "none.pth"}, "none.pth does not exist"),
    ],
)
def test_what_cannot_be_created_is_refused(options: dict, message: str, file: Path) -> None:
    weights = {"weights": file} if options.get("weights") == "FILE" else {}
    with pytest.raises(InputError, match=message):
        flax_densenet.create(**{**options, **weights})


def test_image_reader_normalizes_as_the_file_tells(tmp_path: Path) -> None:
    write_torchvision(tmp_path / "a.safetensors", GRAY)
    statistics = ("--mean", "100", "--std", "50")
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", *statistics)
    pixels = write_images(tmp_path / "images", 2, channels=1)
    read = flax_densenet.image_reader(tmp_path / "b.safetensors")
    image = read([tmp_path / "images" / "0.png", str(tmp_path / "images" / "1.png")])
    np.testing.assert_allclose(image, (pixels - np.float32(100)) / 50, rtol=1e-6)
    with pytest.raises(InputError, match=r"none.png cannot be read: No such file or directory;"):
        read([tmp_path / "none.png"])
    refused: tuple[Any, ...] = ("0.png", [])
    for wrong in refused:
        with pytest.raises(InputError, match=r"paths .* must be a list of paths, at least one"):
            read(wrong)
    with pytest.raises(InputError, match=r"not in the file; give it with --mean"):
        flax_densenet.image_reader(tmp_path / "a.safetensors")
    read = flax_densenet.image_reader(
        tmp_path / "a.safetensors", image_size=16, mean=[100], std=[50]
    )
    image = read([tmp_path / "images" / "0.png"])
    (shrunk,) = write_images(tmp_path / "small", 1, size=32, channels=1)
    right = np.asarray(
        Image.fromarray(shrunk.squeeze()).resize((16, 16), Image.Resampling.BILINEAR)
    )
    np.testing.assert_allclose(image[0, ..., 0], (right - np.float32(100)) / 50, rtol=1e-6)
    with pytest.raises(InputError, match=r"image_size \(=0\) must be an integer of at least 1"):
        flax_densenet.image_reader(tmp_path / "a.safetensors", image_size=0)
    with pytest.raises(InputError, match=r"must both have one number for each channel; give both"):
        flax_densenet.image_reader(tmp_path / "a.safetensors", mean=[100])
