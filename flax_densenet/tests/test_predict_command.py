"""Tests of flax_densenet/cli/predict.py on a tiny network."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flax_densenet import DenseNet, to_torch_arrays
from flax_densenet.tests.tiny_checkpoints import (
    COLOR,
    GRAY,
    NAMES,
    convert,
    write_images,
    write_torchvision,
)
from flax_densenet.weights.files import write_safetensors

Status = Callable[..., int]
Printed = Callable[[], str]
STATISTICS = ("--mean", "120,130,140", "--std", "50,60,70")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("predict")
    write_torchvision(directory / "a.safetensors", COLOR)
    convert(directory / "a.safetensors", directory / "tiny.safetensors", *STATISTICS)
    (directory / "names.txt").write_text("\n".join(NAMES) + "\n\n")
    (directory / "names.json").write_text(json.dumps(NAMES))
    return directory / "tiny.safetensors"


@pytest.fixture(scope="module")
def images(checkpoint: Path) -> Path:
    """Five images, one of them in a directory below, and one that is broken."""
    directory = checkpoint.parent / "images"
    write_images(directory, 5)
    (directory / "below").mkdir()
    (directory / "4.png").rename(directory / "below" / "4.PNG")
    (directory / ".hidden.png").write_bytes(b"")
    (directory / "notes.txt").write_text("no image")
    (directory / "below" / "around").symlink_to(directory)
    return directory


@pytest.fixture(scope="module")
def probability(checkpoint: Path, images: Path) -> np.ndarray:
    """What is right, from the pixels, without any code that reads or normalizes images."""
    variables = write_torchvision(checkpoint.parent / "a.safetensors", COLOR)
    paths = [images / f"{i}.png" for i in range(4)] + [images / "below" / "4.PNG"]
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths]).astype(np.float32)
    x = (pixels - np.array([120, 130, 140], np.float32)) / np.array([50, 60, 70], np.float32)
    logits = np.asarray(DenseNet(COLOR).apply(variables, x, train=False), np.float64)
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("batch_size", ["2", "32"])
def test_every_image_gets_its_classes_whatever_the_batch(
    batch_size: str,
    checkpoint: Path,
    images: Path,
    probability: np.ndarray,
    status: Status,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ("--json", "--batch_size", batch_size, "--top_k", "2")
    names = ("--class_names", str(checkpoint.parent / "names.txt"))
    assert status("predict", str(checkpoint), str(images), *flags, *names) == 0
    found = objects(capsys)
    order = ["0.png", "1.png", "2.png", "3.png", "below/4.PNG"]
    assert [Path(one["image"]) for one in found] == [images / name for name in order]
    for one, row in zip(found, probability, strict=True):
        best = np.argsort(-row)[:2]
        assert [entry["index"] for entry in one["classes"]] == best.tolist()
        assert [entry["name"] for entry in one["classes"]] == [NAMES[i] for i in best]
        shown = [entry["probability"] for entry in one["classes"]]
        np.testing.assert_allclose(shown, row[best], rtol=1e-5)


def test_table_and_names_in_json(
    checkpoint: Path, images: Path, probability: np.ndarray, status: Status, printed: Printed
) -> None:
    image, names = str(images / "0.png"), str(checkpoint.parent / "names.json")
    assert status("predict", str(checkpoint), image, "--class_names", names) == 0
    shown = [f"{probability[0, i]:.2%} {NAMES[i]}" for i in np.argsort(-probability[0])]
    assert printed() == " ".join([image, *shown])  # all 3, where 5 were asked for
    assert status("predict", str(checkpoint), image, "--top_k", "1") == 0
    assert printed().endswith(f"% class {probability[0].argmax()}")


def test_broken_images_are_named_and_the_others_are_done(
    checkpoint: Path,
    images: Path,
    probability: np.ndarray,
    status: Status,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes((images / "1.png").read_bytes()[:-700])
    paths = (str(broken), str(images / "0.png"))
    assert status("predict", str(checkpoint), *paths) == 1
    captured = capsys.readouterr()
    assert f"error: {broken}: " in captured.err
    assert captured.err.endswith(
        f"error: 1 of 2 images could not be classified: {broken}; the others are done\n"
    )
    assert f"{probability[0].max():.2%}" in captured.out and str(broken) not in captured.out
    assert status("predict", str(checkpoint), *paths, "--json") == 1
    first, second = objects(capsys)
    assert set(first) == {"image", "error"} and set(second) == {"image", "classes"}
    assert status("predict", str(checkpoint), str(broken)) == 1


def test_flags_override_what_the_checkpoint_tells(
    checkpoint: Path, images: Path, status: Status, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--image_size", "20", "--shorter_side", "25", "--interpolation", "bicubic")
    pixels = ("--mean", "1,2,3", "--std", "4,5,6")
    image = images / "0.png"
    assert status("predict", str(checkpoint), str(image), "--json", *flags, *pixels) == 0
    (found,) = objects(capsys)
    resized = Image.open(image).resize((25, 25), Image.Resampling.BICUBIC).crop((2, 2, 22, 22))
    x = (np.asarray(resized)[np.newaxis].astype(np.float32) - [1, 2, 3]) / [4, 5, 6]
    variables = write_torchvision(checkpoint.parent / "a.safetensors", COLOR)
    logits = np.asarray(DenseNet(COLOR).apply(variables, x.astype(np.float32), train=False))[0]
    right = np.exp(logits) / np.exp(logits).sum()
    shown = {entry["index"]: entry["probability"] for entry in found["classes"]}
    np.testing.assert_allclose([shown[i] for i in range(3)], right, rtol=1e-4)


def test_gray_networks_see_gray(
    images: Path, status: Status, printed: Printed, tmp_path: Path
) -> None:
    write_torchvision(tmp_path / "gray.safetensors", GRAY)
    Image.open(images / "0.png").convert("L").save(tmp_path / "gray.png")
    found = []
    for image in (images / "0.png", tmp_path / "gray.png"):
        flags = ("--mean", "100", "--std", "50")
        assert status("predict", str(tmp_path / "gray.safetensors"), str(image), *flags) == 0
        found.append(printed().split(maxsplit=1)[1])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("none.pth", "{images}"), "none.pth does not exist"),
        (("{file}", "none.png"), "none.png does not exist; give an image or a directory of"),
        (("{file}", "{empty}"), r"hold no image; wanted files with an ending that"),
        (("{file}", "{images}", "--top_k", "0"), r"top_k \(=0\) must be an integer of at least 1"),
        (("{file}", "{images}", "--batch_size", "0"), r"batch_size \(=0\) must be an integer"),
        (("{file}", "{images}", "--mean", "1,2,3,4"), "must both have one number for each"),
        (("{file}", "{images}", "--mean", "10", "--std", "10"), r"images of 3 channel\(s\) were"),
        (("{file}", "{images}", "--image_size", "0"), r"image_size \(=0\) must be an integer"),
        (("{file}", "{images}", "--shorter_side", "9"), r"shorter side \(=9\) must be at least"),
        (("{file}", "{images}", "--interpolation", "cubic"), "invalid choice 'cubic'"),
        (("{file}", "{images}", "--class_names", "none.txt"), "none.txt cannot be read"),
        (("{file}", "{images}", "--class_names", "{two}"), "two.txt names 2 classes and the net"),
        (("{file}", "{images}", "--class_names", "{bad}"), "bad.json is damaged JSON"),
        (("{file}", "{images}", "--class_names", "{map}"), "map.json is JSON, and no list of"),
        (
            ("{file}", "{images}", "--class_names", "{same}"),
            r"names classes 0 and 2 \(from 0\) 'ant'",
        ),
        (
            ("{file}", "{images}", "--pixel_range=4,-4"),
            r"pixel_range \(=\(4.0, -4.0\)\) must be LOW",
        ),
        (("{file}",), r"images \(=\(\)\) must be at least one file or directory"),
    ],
)
def test_wrong_input_is_one_message(
    args: tuple[str, ...],
    message: str,
    checkpoint: Path,
    images: Path,
    status: Status,
    printed: Printed,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    texts = {
        "same.txt": "ant\nbee\nant",
        "two.txt": "ant\nbee",
        "bad.json": '["ant"',
        "map.json": '{"ant": 0}',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    places = {Path(name).stem: tmp_path / name for name in (*texts, "empty")}
    words = [word.format(file=checkpoint, images=images, **places) for word in args]
    assert status("predict", *words) == 2
    text = printed()
    assert re.search(message, text), text
    assert "Traceback" not in text


def test_infinite_output_is_an_error_of_the_image(
    images: Path, status: Status, printed: Printed, tmp_path: Path
) -> None:
    path = tmp_path / "bad.safetensors"
    variables = write_torchvision(path, COLOR)
    variables["params"]["classifier"]["bias"] += np.inf
    arrays = to_torch_arrays(variables, COLOR)
    write_safetensors(path, arrays, {}, overwrite=True)
    flags = ("--mean", "1,2,3", "--std", "4,5,6")
    assert status("predict", str(path), str(images / "0.png"), *flags) == 1
    text = printed()
    assert "warning: NaN or infinity in 1 array: classifier.bias" in text
    assert "0.png: the network's output for it is not finite" in text
    assert status("explain", str(path), str(images / "0.png"), *flags) == 2
    assert "0.png is not finite; check its weights" in printed()
