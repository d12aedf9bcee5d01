"""Tests of flax_densenet/cli/explain.py on a tiny network."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flax_densenet import DenseNet
from flax_densenet.tests.tiny_checkpoints import (
    COLOR,
    NAMES,
    convert,
    write_images,
    write_torchvision,
)

Status = Callable[..., int]
Printed = Callable[[], str]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("explain")
    write_torchvision(directory / "a.safetensors", COLOR)
    statistics = ("--mean", "100,100,100", "--std", "50,50,50")
    convert(directory / "a.safetensors", directory / "tiny.safetensors", *statistics)
    write_images(directory, 1)
    (directory / "names.txt").write_text("\n".join(NAMES))
    (directory / "numbers.txt").write_text("2\n1\n0")
    return directory


@pytest.fixture
def explain(
    directory: Path, status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Status:
    monkeypatch.chdir(tmp_path)
    paths = (str(directory / "tiny.safetensors"), str(directory / "0.png"))
    return lambda *flags: status("explain", *paths, *(flag.format(d=directory) for flag in flags))


def logits(directory: Path) -> np.ndarray:
    variables = write_torchvision(directory / "a.safetensors", COLOR)
    x = (write_images(directory, 1) - np.float32(100)) / 50
    return np.asarray(DenseNet(COLOR).apply(variables, x, train=False))[0]


def test_most_probable_class_is_drawn(
    explain: Status, printed: Printed, directory: Path, tmp_path: Path
) -> None:
    assert explain() == 0
    row = logits(directory)
    share = np.exp(row.max()) / np.exp(row).sum()
    text = f"class {row.argmax()}: {share:.2%}, logit {row.max():.2f} wrote 0-cam.png"
    assert printed() == text
    assert (tmp_path / "0-cam.png").read_bytes().startswith(PNG)


def test_class_is_found_by_name_and_then_by_index(
    explain: Status, printed: Printed, directory: Path
) -> None:
    row = logits(directory)
    for number, (file, asked, index) in enumerate(
        [("names.txt", "bee", 1), ("names.txt", "2", 2), ("numbers.txt", "2", 0)]
    ):
        flags = ("--class_names", f"{{d}}/{file}", "--class", asked, "--output", f"{number}.png")
        assert explain(*flags) == 0
        assert f"logit {row[index]:.2f} " in printed()


def test_method_and_format_are_as_asked(explain: Status, tmp_path: Path) -> None:
    assert explain("--method", "gradcam", "--layer", "denseblock2", "--output", "x.jpg") == 0
    assert (tmp_path / "x.jpg").read_bytes().startswith(b"\xff\xd8")


def test_pictures_are_not_replaced_unless_asked(
    explain: Status, printed: Printed, tmp_path: Path
) -> None:
    (tmp_path / "x.png").write_text("mine")
    assert explain("--output", "x.png") == 2
    assert "x.png exists; give another --output, or replace it with --overwrite" in printed()
    assert (tmp_path / "x.png").read_text() == "mine"
    assert explain("--output", "x.png", "--overwrite") == 0


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--class", "3"), 2, r"class \(='3'\) must be below 3, counted from 0"),
        (("--class", "bee"), 2, r"is a name, and the checkpoint has none; give the class's"),
        (
            ("--class", "be", "--class_names", "{d}/names.txt"),
            2,
            r"class \(='be'\) must be one of the following; perhaps you meant bee; ant, bee, cat",
        ),
        (("--layer", "norm5"), 2, r"layer \(='norm5'\) is for --method gradcam"),
        (("--method", "gradcam", "--layer", "x"), 2, r"layer \(='x'\) must be one of denseblock1"),
        (("--output", "x"), 2, r"output \(='x'\) must be FILE with \.png, "),
        (
            ("--output", "no/x.png"),
            2,
            r"no/x.png cannot be written: \S+/no is no directory; create it",
        ),
    ],
)
def test_wrong_input_is_one_message(
    flags: tuple[str, ...], code: int, message: str, explain: Status, printed: Printed
) -> None:
    assert explain(*flags) == code
    text = printed()
    assert re.search(message, text), text
    assert "Traceback" not in text


def test_image_that_is_none_is_one_message(
    directory: Path, status: Status, printed: Printed
) -> None:
    assert status("explain", str(directory / "tiny.safetensors"), str(directory / "names.txt")) == 2
    assert "names.txt cannot be read: no image that Pillow knows; give another image" in printed()
