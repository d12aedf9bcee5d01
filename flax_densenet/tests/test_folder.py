"""Tests of flax_densenet/data/images/folder.py on folders that are written here."""

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flax_densenet import InputError
from flax_densenet.data.dataset import hold_out
from flax_densenet.data.images import formats
from flax_densenet.data.images.decode import ImageFormat, decode
from flax_densenet.data.images.folder import describe_folder, load_folder
from flax_densenet.data.images.formats import BrokenImage

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


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_folder_alone_has_the_test_images(name: str, folder: Path) -> None:
    (folder / "test").rename(folder / name)
    data = load_folder(folder, FORMAT)
    assert (len(data.test), data.validation) == (2, None)
    assert data.notes == (f"{name}/ has the test images",)


def test_validation_folder_beside_test_is_the_validation_split(folder: Path) -> None:
    write(folder / "val" / "ant" / "f.png", 200)
    with pytest.raises(InputError, match=r"only \S*train has bee; wanted a folder for the same"):
        load_folder(folder, FORMAT)
    write(folder / "val" / "bee" / "g.png", 210)
    data = load_folder(folder, FORMAT)
    assert contents(data.validation) == [(200, 0, "f.png"), (210, 1, "g.png")]
    assert contents(data.test) == [(100, 0, "d.jpeg"), (110, 1, "e.webp")]
    assert data.notes == ("val/ has the validation images and test/ the test images",)
    with pytest.raises(
        InputError, match=r"validation_images \(=1\) would be .* has 2 validation images of its own"
    ):
        hold_out(data, 1)
    assert hold_out(data, 0) is data
    (folder / "validation").mkdir()
    with pytest.raises(InputError, match=r"has val and validation, which mean the same; keep one"):
        load_folder(folder, FORMAT)


@pytest.mark.parametrize("unlabelled", ["1.png", "unknown/1.png", None])
def test_unlabelled_test_images_do_not_hide_validation_images(
    unlabelled: str | None, folder: Path
) -> None:
    (folder / "test").rename(folder / "val")
    (folder / "test").mkdir()
    if unlabelled:
        write(folder / "test" / unlabelled, 0)
    assert describe_folder(folder) == 2
    data = load_folder(folder, FORMAT)
    assert (contents(data.test)[0], data.validation) == ((100, 0, "d.jpeg"), None)
    assert data.notes == (
        "test/ is left out: it has no folder of any class, so that nothing is labelled",
        "val/ has the test images",
    )


def test_hidden_and_other_files_are_passed_over(folder: Path) -> None:
    names = (".DS_Store", "ant/._b.PNG", "ant/notes.txt", "ant/.hidden/x.png", ".git/x.png")
    others = ("ant/deep/b.TXT", "bee/000001", "bee/x.npy", "loose.png")
    for name in (*names, *others):
        path = folder / "train" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    (folder / "extra").mkdir()
    data = load_folder(folder, FORMAT)
    assert len(data.train) == 3
    assert data.notes == (
        "test/ has the test images",
        "passed over what lies beside train/: extra",
        "passed over 4 files (2 .txt, 1 without an ending, 1 .npy) in "
        f"{folder / 'train'}, which are no images by their names",
        f"passed over what lies beside the classes in {folder / 'train'}: loose.png",
    )


@pytest.mark.parametrize("ending", ["avif", "webp", "jp2", "tga", "jpg", "mpo"])
def test_whatever_pillow_reads_is_taken(ending: str, folder: Path) -> None:
    path = folder / "train" / "bee" / f"z.{ending.upper()}"
    Image.new("RGB", (9, 9), (90, 90, 90)).save(path, quality=100)
    *_, (value, label, name) = contents(load_folder(folder, FORMAT).train)
    assert (label, name) == (1, path.name) and abs(value - 90) <= 1


def read_gray(file: object, name: object) -> Any:
    return Image.new("L", (4, 4), 55)


def test_plug_in_of_pillow_is_asked_for_its_endings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "train" / "bee" / "z.heic").write_bytes(b"HEIC")
    assert len(load_folder(folder, FORMAT).train) == 3
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setattr(Image, "EXTENSION", dict(Image.EXTENSION))
    Image.register_open("TEST", read_gray, lambda head: head == b"HEIC")
    Image.register_extension("TEST", ".heic")
    assert contents(load_folder(folder, FORMAT).train)[-1] == (55, 1, "z.heic")


def test_heic_is_taken_where_its_plug_in_is_installed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "train" / "bee" / "z.heic").write_bytes(b"HEIC")
    for name, kind in (("OPEN", dict), ("ID", list), ("EXTENSION", dict)):
        monkeypatch.setattr(Image, name, kind(getattr(Image, name)))
    (tmp_path / "pillow_heif.py").write_text(
        "from PIL import Image\n"
        "def register_heif_opener():\n"
        "    Image.register_open('HEIF', None, None)\n"
        "    Image.register_extension('HEIF', '.heic')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    formats._register.cache_clear()
    try:
        assert len(load_folder(folder, FORMAT).train) == 4
    finally:
        formats._register.cache_clear()
        sys.modules.pop("pillow_heif", None)


def test_programs_are_not_run_on_a_file(folder: Path) -> None:
    """Pillow has Ghostscript read PostScript."""
    path = folder / "train" / "bee" / "z.eps"
    Image.new("RGB", (9, 9)).save(path)
    assert len(load_folder(folder, FORMAT).train) == 3
    with pytest.raises(BrokenImage, match="no image that Pillow knows"):
        decode(path.read_bytes(), FORMAT)


def test_names_that_are_not_utf_8(folder: Path) -> None:
    file = os.fsencode(folder / "train" / "bee") + b"/M\xfcller.png"
    with open(file, "wb") as broken:
        broken.write(b"broken")
    with pytest.raises(InputError, match=r"bee/M\\xfcller.png .* cannot be read: no image"):
        contents(load_folder(folder, FORMAT).train)
    os.mkdir(os.fsencode(folder / "train") + b"/w\xe4sp")
    with pytest.raises(InputError, match=r"train has w\\xe4sp, whose name is not UTF-8; rename it"):
        load_folder(folder, FORMAT)


def test_names_in_two_unicode_forms_are_refused(folder: Path) -> None:
    (folder / "train" / "ant").rename(folder / "train" / "\u00e4")  # one character
    (folder / "test" / "ant").rename(folder / "test" / "a\u0308")  # two
    with pytest.raises(InputError, match=r"and these differ only in their Unicode form, composed"):
        load_folder(folder, FORMAT)
    (folder / "train" / "a\u0308").mkdir()
    with pytest.raises(InputError, match=r"has folders that differ only in their Unicode form"):
        load_folder(folder, FORMAT)


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


def test_files_of_another_range_are_named_and_not_skipped(folder: Path) -> None:
    path = folder / "train" / "bee" / "z.png"
    pixels = np.full((4, 5), 819, np.uint16)  # a fifth of 4095
    Image.fromarray(pixels).save(path)
    data = load_folder(folder, FORMAT, on_broken="skip")
    with pytest.raises(
        InputError, match=rf"^{path} .image 3 of 4, from 0.: its values .*--pixel_range=0,4095, or"
    ):
        contents(data.train)
    data = load_folder(folder, dataclasses.replace(FORMAT, pixel_range=(0, 4095)))
    assert contents(data.train)[-1] == (51, 1, "z.png")
    assert data.notes[1] == (
        "pixel_range is for gray pixels of more than 8 bits; others stay as they are, such as "
        f"those of {folder / 'train' / 'ant' / 'b.PNG'}"
    )


def test_strips_are_skipped_and_named(folder: Path) -> None:
    path = folder / "train" / "bee" / "z.png"
    Image.new("L", (60_000, 1)).save(path)
    data = load_folder(folder, ImageFormat(64), on_broken="skip")
    assert contents(data.train)[-1][0] == 10  # the first image takes its place
    assert data.unreadable == [str(path)]


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
        (
            remove("."),
            r"does not exist; wanted train/<class>/<image>, and the same in test/ or val/",
        ),
        (remove("train"), "has no folder train; wanted train/<class>"),
        (remove("test"), "has neither of the folders test, val, valid, validation; wanted train/"),
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
    with pytest.raises(
        InputError,
        match=r"train has no image for bee \(it has 1 file \(1 .txt\)\); wanted files with",
    ):
        load_folder(folder, FORMAT)
