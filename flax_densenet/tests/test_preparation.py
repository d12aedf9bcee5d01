"""How images are prepared, as files, runs and other software tell it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flax_densenet import InputError
from flax_densenet.data.preparation import Preparation
from flax_densenet.tests.tiny_checkpoints import GRAY, IMAGENET, convert, write_torchvision
from flax_densenet.weights import load_checkpoint
from flax_densenet.weights.files import read_weights, write_safetensors
from flax_densenet.weights.statement import PREPARATION_KEY

# 255 times (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225), which torchvision normalizes with.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
TORCHVISION = Preparation(size=224, shorter_side=256, mean=MEAN, std=STD)
TIMM = {
    "architecture": "densenet121",
    "pretrained_cfg": {
        "input_size": [3, 288, 288],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
}


def written(path: Path, config: object = None, **beside: Any) -> Path:
    write_torchvision(path / "model.safetensors", IMAGENET)
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    return path / "model.safetensors"


def test_torchvision_resizes_to_256_and_crops_224(tmp_path: Path) -> None:
    assert load_checkpoint(written(tmp_path)).preparation == TORCHVISION


def test_cifar_nets_see_32_pixels_and_tell_no_mean(tmp_path: Path) -> None:
    write_torchvision(tmp_path / "a.safetensors", GRAY)
    found = load_checkpoint(tmp_path / "a.safetensors").preparation
    assert found == Preparation(size=32, shorter_side=32)
    with pytest.raises(
        InputError, match=r"1 channel\(s\) .* not in the file; .* --mean and --std .*, 1 number"
    ):
        found.known_statistics(1)


def test_timm_tells_it_in_config_json(tmp_path: Path) -> None:
    file = written(tmp_path, {**TIMM, "label_names": ["ant", "bee", "cat"]})
    checkpoint = load_checkpoint(file)
    found = checkpoint.preparation
    # timm: floor(288 / 0.95) = 303
    assert (found.size, found.shorter_side, found.interpolation) == (288, 303, "bicubic")
    assert found.mean == pytest.approx(MEAN) and found.std == pytest.approx(STD)
    assert checkpoint.class_names == ("ant", "bee", "cat")


@pytest.mark.parametrize("config", [{"pretrained": 1}, [], {"pretrained_cfg": None}])
def test_config_of_another_program_is_passed_over(config: object, tmp_path: Path) -> None:
    assert load_checkpoint(written(tmp_path, config)).preparation == TORCHVISION


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"crop_mode": "squash"}, "crop_mode is squash, wanted center"),
        ({"input_size": [3, 224, 192]}, "input_size is 224x192, wanted a square"),
        ({"input_size": 224}, "cannot unpack"),
        ({"std": [0, 1, 1]}, "std .* must be numbers above 0"),
    ],
)
def test_timm_that_cannot_be_followed_is_refused(
    setting: dict, reason: str, tmp_path: Path
) -> None:
    config = {"pretrained_cfg": {**TIMM["pretrained_cfg"], **setting}}  # type: ignore[dict-item]
    with pytest.raises(InputError, match=f"cannot be followed .{reason}.*; move it away"):
        load_checkpoint(written(tmp_path, config))


@pytest.mark.parametrize("target", ["flax.safetensors", "orbax"])
def test_converted_files_keep_it(target: str, tmp_path: Path) -> None:
    file = written(tmp_path, {**TIMM, "label_names": ["ant", "bee", "cat"]})
    before = load_checkpoint(file)
    convert(file, tmp_path / target)
    convert(tmp_path / target, tmp_path / "again.safetensors")
    (tmp_path / "config.json").unlink()
    for path in (tmp_path / target, tmp_path / "again.safetensors"):
        after = load_checkpoint(path)
        assert after.preparation == before.preparation
        assert after.class_names == before.class_names


def test_mean_of_other_channels_and_names_of_other_classes_do_not_travel(tmp_path: Path) -> None:
    file = written(tmp_path, {**TIMM, "label_names": ["ant", "bee", "cat"]})
    convert(file, tmp_path / "gray", "--in_channels", "1", "--num_classes", "2", "--new_head")
    checkpoint = load_checkpoint(tmp_path / "gray")
    assert checkpoint.statistics is None and checkpoint.class_names is None
    assert checkpoint.preparation.size == 288


def test_files_from_before_are_read(tmp_path: Path) -> None:
    """They told mean and deviation alone."""
    convert(written(tmp_path), tmp_path / "new.safetensors", "--mean", "1,2,3", "--std", "4,5,6")
    contents = read_weights(tmp_path / "new.safetensors")
    metadata = dict(contents.metadata)
    metadata.pop(PREPARATION_KEY)
    metadata["mean_and_std"] = "[[1, 2, 3], [4, 5, 6]]"
    arrays = {"/".join(keys): array for keys, array in contents.arrays.items()}
    write_safetensors(tmp_path / "old.safetensors", arrays, metadata, overwrite=False)
    for name in ("new", "old"):
        found = load_checkpoint(tmp_path / f"{name}.safetensors").preparation
        assert found == Preparation(size=224, shorter_side=256, mean=(1, 2, 3), std=(4, 5, 6))


def test_damaged_record_is_refused(tmp_path: Path) -> None:
    convert(written(tmp_path), tmp_path / "new.safetensors")
    contents = read_weights(tmp_path / "new.safetensors")
    arrays = {"/".join(keys): array for keys, array in contents.arrays.items()}
    metadata = {**contents.metadata, PREPARATION_KEY: '{"side": 3}'}
    write_safetensors(tmp_path / "bad.safetensors", arrays, metadata, overwrite=False)
    with pytest.raises(InputError, match=r"metadata describe no network .*'side'"):
        load_checkpoint(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"mean": (1.0,)}, r"mean \(=\(1.0,\)\) and std \(=None\) must both have one number"),
        ({"mean": (1.0,), "std": (0.0,)}, r"std \(=\(0.0,\)\) must be numbers above 0"),
        ({"mean": (float("nan"),), "std": (1.0,)}, r"mean \(=\(nan,\)\) must be finite numbers"),
    ],
)
def test_impossible_numbers_are_refused(record: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preparation(**record)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Preparation().image_format(3), "the size .* is not in the file; .* --image_size"),
        (
            lambda: Preparation(size=9, shorter_side=8).image_format(3),
            r"the shorter side \(=8\) must be at least image_size \(=9\)",
        ),
        (
            lambda: Preparation(size=9, interpolation="cubic").image_format(3),  # type: ignore[arg-type]
            r"interpolation \(='cubic'\) must be one of \('nearest', 'box', 'bilinear'",
        ),
    ],
)
def test_what_cannot_be_prepared_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


def test_shorter_side_keeps_its_ratio() -> None:
    assert TORCHVISION.resized_to(288).shorter_side == 329  # 288 * 256 / 224 = 329.1
    assert Preparation().resized_to(8).shorter_side == 8
