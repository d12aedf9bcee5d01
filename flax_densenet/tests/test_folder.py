"""Tests of flax_densenet/data/images/folder.py on folders that are written here."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flax_densenet import InputError
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.folder import describe_folder, load_folder

FORMAT = ImageFormat(4)
BOTH = pytest.mark.parametrize(
    "read", [lambda directory: load_folder(directory, FORMAT), describe_folder]
)


def write(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), (value, value, value)).save(path, "PNG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for value, name in enumerate(("train/bee/a.png", "train/ant/b.PNG", "train/ant/deep/er/c.jpg")):
        write(tmp_path / name, 10 * value)
    for value, name in enumerate(("test/ant/d.jpeg", "test/bee/e.webp")):
        write(tmp_path / name, 100 + 10 * value)
    return tmp_path


def contents(split: Any) -> list[tuple[int, int, str]]:
    (examples,) = split.read([np.arange(len(split))])
    values = examples.image[:, 0, 0, 0].tolist()
    names = [Path(split.source.name(i)).name for i in range(len(split))]
    return list(zip(values, examples.label.tolist(), names, strict=True))


def test_written_images_are_read_with_their_classes(folder: Path) -> None:
    assert describe_folder(folder) == 2
    data = load_folder(folder, FORMAT)
    assert (data.name, data.class_names) == (f"folder:{folder}", ("ant", "bee"))
    assert data.image_shape == (4, 4, 3)
    assert contents(data.train) == [(10, 0, "b.PNG"), (20, 0, "c.jpg"), (0, 1, "a.png")]
    assert contents(data.test) == [(100, 0, "d.jpeg"), (110, 1, "e.webp")]
    assert data.channel_statistics().mean == (10.0, 10.0, 10.0)


@pytest.mark.parametrize("name", ["val", "validation"])
def test_other_names_of_the_test_folder(name: str, folder: Path) -> None:
    (folder / "test").rename(folder / name)
    assert len(load_folder(folder, FORMAT).test) == 2


def test_hidden_and_other_files_are_passed_over(folder: Path) -> None:
    for name in (".DS_Store", "ant/._b.PNG", "ant/notes.txt", "ant/.hidden/x.png", ".git/x.png"):
        path = folder / "train" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    assert len(load_folder(folder, FORMAT).train) == 3


def test_linked_classes_and_names_beyond_ascii(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "train" / "bee", tmp_path / "elsewhere")
    (folder / "train" / "bee").symlink_to(tmp_path / "elsewhere")
    write(folder / "train" / "bee" / "Müller 蜂.png", 30)
    assert contents(load_folder(folder, FORMAT).train)[2:] == [
        (30, 1, "Müller 蜂.png"),
        (0, 1, "a.png"),
    ]


def test_broken_file_is_named_by_its_path(folder: Path) -> None:
    broken = folder / "train" / "ant" / "b.PNG"
    broken.write_bytes(b"")
    with pytest.raises(InputError, match=f"^{broken} .image 0 of 3, from 0. cannot be read"):
        contents(load_folder(folder, FORMAT).train)
    data = load_folder(folder, FORMAT, on_broken="skip")
    assert [value for value, _, _ in contents(data.train)] == [20, 20, 0]
    assert data.train.unreadable == (str(broken),)


def remove(name: str) -> Callable[[Path], Any]:
    return lambda folder: shutil.rmtree(folder / name)


def only_loose_images(folder: Path) -> None:
    for class_name in ("ant", "bee"):
        shutil.rmtree(folder / "train" / class_name)
    write(folder / "train" / "x.png", 0)


def no_classes(folder: Path) -> None:
    shutil.rmtree(folder / "train")
    (folder / "train").mkdir()


def other_classes(folder: Path) -> None:
    (folder / "test" / "bee").rename(folder / "test" / "wasp")


@BOTH
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("."), r"does not exist; wanted train/<class>/<image> and test/<class>/<image>"),
        (remove("train"), "has no folder train; wanted train/<class>"),
        (remove("test"), "has neither of the folders test, val, validation; wanted train/<class>"),
        (no_classes, "train has no folders; wanted one with images for each class"),
        (only_loose_images, "images such as x.png lie directly in .*train; put those of each"),
        (other_classes, r"only \S*train has bee and only \S*test has wasp; wanted .* same classes"),
        (remove("test/bee"), r"only \S*train has bee; wanted a folder for the same classes"),
    ],
)
def test_other_layouts_are_refused(
    read: Callable[[Path], Any], change: Callable[[Path], Any], message: str, folder: Path
) -> None:
    change(folder)
    with pytest.raises(InputError, match=f"^dataset folder: .*{message}"):
        read(folder)


@BOTH
def test_file_in_place_of_the_folder_is_refused(read: Callable[..., Any], folder: Path) -> None:
    with pytest.raises(InputError, match=r"a\.png is no directory; wanted train/"):
        read(folder / "train" / "bee" / "a.png")


def test_class_without_images_is_refused(folder: Path) -> None:
    (folder / "train" / "bee" / "a.png").rename(folder / "train" / "bee" / "a.txt")
    with pytest.raises(InputError, match=r"train has no image for bee; wanted files that end in"):
        load_folder(folder, FORMAT)
