"""Images in one folder per class: `train/<class>/image.jpg`, and the same in `test` or `val`.

Axes: N images.
"""

import dataclasses
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from flax_densenet.data.dataset import ChannelStatistics, Dataset
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.formats import image_suffixes
from flax_densenet.data.images.paths import describe_passed_over, images_below
from flax_densenet.data.images.streamed import EncodedExample, OnBroken, StreamedSplit
from flax_densenet.data.images.wide_pixels import is_wide_file
from flax_densenet.errors import InputError, listed, printable

_TRAIN, _TEST = "train", "test"
_VALIDATION = ("val", "valid", "validation")
HELD_OUT_FOLDERS = (_TEST, *_VALIDATION)
_LAYOUT = (
    "wanted train/<class>/<image>, and the same in test/ or val/ (or valid/ or validation/) or both"
)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles:
    """Files of a split, as `EncodedImages`.

    Attributes:
      directory: Directory of the relative paths.
      path: [N] bytes, relative; an array, since workers get millions of them.
      label: [N] int32, class indices from 0.
    """

    directory: Path
    path: np.ndarray
    label: Int32[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.path)

    def read(self, index: int) -> EncodedExample:
        """Returns an image's bytes and label.

        Raises:
          OSError: The file cannot be read.
        """
        return EncodedExample(Path(self.file(index)).read_bytes(), int(self.label[index]))

    def file(self, index: int) -> str:
        """Returns the file's path."""
        return os.path.join(self.directory, os.fsdecode(self.path[index]))

    def name(self, index: int) -> str:
        """Returns the file's path, for people."""
        return printable(self.file(index))


def load_folder(
    directory: str | Path,
    image_format: ImageFormat,
    *,
    num_workers: int = 0,
    on_broken: OnBroken = "stop",
    name: str | None = None,
    published_statistics: ChannelStatistics | None = None,
) -> Dataset:
    """Finds the images of a folder, without reading them.

    Classes are the folders in `train/`, sorted by name; images may be in folders below. If there
    are `val/` and `test/`, val is the validation split; one alone is the test split. A test folder
    without a folder of any class, as an unlabelled one is, does not count beside val. Hidden files
    (.DS_Store) are left out, files without the ending of an image are counted in the notes.

    Args:
      directory: Folder with `train/` and `test/`, or `val/`, `valid/` or `validation/`, or both.
      image_format: Format of every image.
      num_workers: Processes that read and decode; 0 does so in threads of this one.
      on_broken: Treatment of broken images, as in `StreamedSplit`.
      name: The data set's name; None is "folder:<directory>".
      published_statistics: As `Dataset`.

    Raises:
      InputError: The folder is laid out in another way, or a class has no image.
    """
    folders, class_names = _read_layout(directory)
    notes = list(folders.notes)
    files = {
        split: _find_images(folder, class_names, notes)
        for split, folder in folders.by_split.items()
    }
    if image_format.pixel_range is not None and not is_wide_file(files["train"].file(0)):
        notes.append(
            "pixel_range is for gray pixels of more than 8 bits; others stay as they are, such as "
            f"those of {files['train'].name(0)}"
        )
    splits = {
        split: StreamedSplit(found, image_format, num_workers, on_broken)
        for split, found in files.items()
    }
    return Dataset(
        name=name or f"folder:{printable(str(directory))}",
        train=splits["train"],
        test=splits["test"],
        validation=splits.get("validation"),
        class_names=class_names,
        published_statistics=published_statistics,
        notes=tuple(notes),
    )


def describe_folder(directory: str | Path) -> int:
    """Returns the number of classes, without looking for images.

    Raises:
      InputError: As `load_folder`, as far as the folders show it.
    """
    return len(_read_layout(directory).class_names)


class _Folders(NamedTuple):
    by_split: Mapping[str, Path]
    notes: Sequence[str]


class _Layout(NamedTuple):
    folders: _Folders
    class_names: tuple[str, ...]


def _read_layout(directory: str | Path) -> _Layout:
    where = Path(directory).expanduser()
    folders = _find_folders(where)
    in_split = {split: _class_names(folder) for split, folder in folders.by_split.items()}
    for split, names in in_split.items():
        if split != "train":
            others = folders.by_split[split]
            _check_same_classes(folders.by_split["train"], in_split["train"], others, names)
    return _Layout(folders, in_split["train"])


def _find_folders(where: Path) -> _Folders:
    if not where.is_dir():
        problem = "is no directory" if where.exists() else "does not exist"
        raise InputError(f"dataset folder: {where} {problem}; {_LAYOUT}")
    inside, _ = _visible(where)
    if _TRAIN not in inside:
        raise InputError(f"dataset folder: {where} has no folder train; {_LAYOUT}")
    held_out = [name for name in HELD_OUT_FOLDERS if name in inside]
    if not held_out:
        raise InputError(
            f"dataset folder: {where} has neither of the folders {', '.join(HELD_OUT_FOLDERS)}; "
            f"{_LAYOUT}"
        )
    notes, validation = [], [name for name in held_out if name != _TEST]
    if len(validation) > 1:
        raise InputError(
            f"dataset folder: {where} has {' and '.join(validation)}, which mean the same; keep one"
        )
    if len(held_out) > 1 and not set(_visible(where / _TEST)[0]) & set(
        _class_names(where / _TRAIN)
    ):
        held_out = validation
        notes.append(
            "test/ is left out: it has no folder of any class, so that nothing is labelled"
        )
    if len(held_out) == 1:
        notes.append(f"{held_out[0]}/ has the test images")
    else:
        notes.append(f"{validation[0]}/ has the validation images and test/ the test images")
    if others := sorted(set(inside) - {_TRAIN, *HELD_OUT_FOLDERS}):
        notes.append(f"passed over what lies beside train/: {listed(list(map(printable, others)))}")
    by_split = {"train": where / _TRAIN, "test": where / held_out[0]}
    if len(held_out) > 1:
        by_split["validation"] = where / validation[0]
    return _Folders(by_split, notes)


def _visible(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the names of folders and of files that are not hidden, sorted."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    folders = sorted(entry.name for entry in visible if entry.is_dir())
    return folders, sorted(entry.name for entry in visible if not entry.is_dir())


def _class_names(split_folder: Path) -> tuple[str, ...]:
    class_names, files = _visible(split_folder)
    if class_names:
        _check_names(split_folder, class_names)
        return tuple(class_names)
    suffixes = image_suffixes()
    images = [name for name in files if os.path.splitext(name)[1].lower() in suffixes]
    if images:
        raise InputError(
            f"dataset folder: images such as {printable(images[0])} lie directly in "
            f"{split_folder}; put those of each class into a folder of its name"
        )
    raise InputError(
        f"dataset folder: {split_folder} has no folders; wanted one with images for each class"
    )


def _check_names(split_folder: Path, class_names: Sequence[str]) -> None:
    shown = [printable(name) for name in class_names]
    if broken := [text for text, name in zip(shown, class_names, strict=True) if text != name]:
        raise InputError(
            f"dataset folder: {split_folder} has {listed(broken)}, whose name is not UTF-8; rename "
            "it, since the names of classes are printed and kept in files"
        )
    forms = Counter(unicodedata.normalize("NFC", name) for name in class_names)
    if twice := [name for name, count in forms.items() if count > 1]:
        raise InputError(
            f"dataset folder: {split_folder} has folders that differ only in their Unicode form, "
            f"composed or not: {listed(twice)}; put their images into one"
        )


def _check_same_classes(
    train_folder: Path, in_train: Sequence[str], other_folder: Path, in_other: Sequence[str]
) -> None:
    only = [
        f"only {folder} has {listed(sorted(set(names) - set(others)))}"
        for folder, names, others in (
            (train_folder, in_train, in_other),
            (other_folder, in_other, in_train),
        )
        if set(names) - set(others)
    ]
    if not only:
        return
    train_forms, other_forms = (
        {unicodedata.normalize("NFC", name) for name in names} for names in (in_train, in_other)
    )
    form = ""
    if train_forms == other_forms:
        form = ", and these differ only in their Unicode form, composed or not"
    raise InputError(
        f"dataset folder: {' and '.join(only)}{form}; wanted a folder for the same classes in both"
    )


def _find_images(split_folder: Path, class_names: Sequence[str], notes: list[str]) -> ImageFiles:
    """Returns the files, and adds to the notes what was passed over."""
    path: list[bytes] = []
    label: list[int] = []
    empty = []
    passed_over: Counter[str] = Counter()
    for index, class_name in enumerate(class_names):
        found = images_below(split_folder, class_name)
        path += sorted(map(os.fsencode, found.paths))
        label += [index] * len(found.paths)
        passed_over.update(found.passed_over)
        if not found.paths:
            empty.append(class_name)
    skipped = describe_passed_over(passed_over) if passed_over else ""
    if empty:
        has = f" (it has {skipped})" if skipped else ""
        raise InputError(
            f"dataset folder: {split_folder} has no image for {listed(empty)}{has}; wanted files "
            "with an ending that Pillow reads, such as .jpg or .png, or no such folder"
        )
    if skipped:
        notes.append(f"passed over {skipped} in {split_folder}, which are no images by their names")
    if beside := _visible(split_folder)[1]:
        few = listed([printable(name) for name in beside])
        notes.append(f"passed over what lies beside the classes in {split_folder}: {few}")
    return ImageFiles(split_folder, np.array(path), np.array(label, np.int32))
