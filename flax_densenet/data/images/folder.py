"""Images in one folder per class: `train/<class>/image.jpg` and `test/<class>/image.jpg`.

Axes: N images.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from flax_densenet.data.dataset import ChannelStatistics, Dataset
from flax_densenet.data.images.decode import ImageFormat
from flax_densenet.data.images.paths import IMAGE_SUFFIXES, images_below, is_image
from flax_densenet.data.images.streamed import EncodedExample, OnBroken, StreamedSplit
from flax_densenet.errors import InputError, listed

TEST_FOLDERS = ("test", "val", "validation")
_LAYOUT = "wanted train/<class>/<image> and test/<class>/<image> (or val/ or validation/) in it"


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
        return EncodedExample(Path(self.name(index)).read_bytes(), int(self.label[index]))

    def name(self, index: int) -> str:
        """Returns the file's path."""
        return os.path.join(self.directory, os.fsdecode(self.path[index]))


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

    Classes are the folders in `train/`, sorted by name; images may be in folders below. Hidden
    files (.DS_Store) and files without the suffix of an image are left out.

    Args:
      directory: Folder with `train/` and one of `test/`, `val/`, `validation/`.
      image_format: Format of every image.
      num_workers: Processes that read and decode; 0 does so in threads of this one.
      on_broken: Treatment of broken images, as in `StreamedSplit`.
      name: The data set's name; None is "folder:<directory>".
      published_statistics: As `Dataset`.

    Raises:
      InputError: The folder is laid out in another way, or a class has no image.
    """
    train_folder, test_folder = _split_folders(directory)
    class_names = _class_names(train_folder)
    _check_same_classes(train_folder, class_names, test_folder, _class_names(test_folder))
    train, test = (
        StreamedSplit(_find_images(folder, class_names), image_format, num_workers, on_broken)
        for folder in (train_folder, test_folder)
    )
    return Dataset(
        name=name or f"folder:{directory}",
        train=train,
        test=test,
        class_names=class_names,
        published_statistics=published_statistics,
    )


def describe_folder(directory: str | Path) -> int:
    """Returns the number of classes, without looking for images.

    Raises:
      InputError: As `load_folder`, as far as the folders show it.
    """
    train_folder, test_folder = _split_folders(directory)
    class_names = _class_names(train_folder)
    _check_same_classes(train_folder, class_names, test_folder, _class_names(test_folder))
    return len(class_names)


def _split_folders(directory: str | Path) -> tuple[Path, Path]:
    where = Path(directory).expanduser()
    if not where.is_dir():
        problem = "is no directory" if where.exists() else "does not exist"
        raise InputError(f"dataset folder: {where} {problem}; {_LAYOUT}")
    if not (where / "train").is_dir():
        raise InputError(f"dataset folder: {where} has no folder train; {_LAYOUT}")
    for test_folder in TEST_FOLDERS:
        if (where / test_folder).is_dir():
            return where / "train", where / test_folder
    raise InputError(
        f"dataset folder: {where} has neither of the folders {', '.join(TEST_FOLDERS)}; {_LAYOUT}"
    )


def _class_names(split_folder: Path) -> tuple[str, ...]:
    with os.scandir(split_folder) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    class_names = tuple(entry.name for entry in visible if entry.is_dir())
    if class_names:
        return class_names
    images = [entry.name for entry in visible if is_image(entry.name)]
    if images:
        raise InputError(
            f"dataset folder: images such as {images[0]} lie directly in {split_folder}; put those "
            "of each class into a folder of its name"
        )
    raise InputError(
        f"dataset folder: {split_folder} has no folders; wanted one with images for each class"
    )


def _check_same_classes(
    train_folder: Path, in_train: Sequence[str], test_folder: Path, in_test: Sequence[str]
) -> None:
    only = [
        f"only {folder} has {listed(sorted(set(names) - set(others)))}"
        for folder, names, others in (
            (train_folder, in_train, in_test),
            (test_folder, in_test, in_train),
        )
        if set(names) - set(others)
    ]
    if only:
        raise InputError(
            f"dataset folder: {' and '.join(only)}; wanted a folder for the same classes in both"
        )


def _find_images(split_folder: Path, class_names: Sequence[str]) -> ImageFiles:
    path: list[bytes] = []
    label: list[int] = []
    empty = []
    for index, class_name in enumerate(class_names):
        found = sorted(os.fsencode(path) for path in images_below(split_folder, class_name))
        path += found
        label += [index] * len(found)
        if not found:
            empty.append(class_name)
    if empty:
        raise InputError(
            f"dataset folder: {split_folder} has no image for {listed(empty)}; wanted files that "
            f"end in one of {' '.join(sorted(IMAGE_SUFFIXES))}, or no such folder"
        )
    return ImageFiles(split_folder, np.array(path), np.array(label, np.int32))
