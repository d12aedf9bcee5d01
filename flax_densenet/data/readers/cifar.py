"""CIFAR-10 and CIFAR-100, in the pickled and in the binary version of their authors.

Format: https://www.cs.toronto.edu/~kriz/cifar.html. Axes: N images.
"""

import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from flax_densenet.data.dataset import ArraySplit
from flax_densenet.data.readers.batch_pickle import read_pickle
from flax_densenet.data.readers.originals import Splits, check_labels, damaged

_SIZE = 32  # pixels
_PIXELS = 3 * _SIZE * _SIZE  # bytes of an image: all red ones, all green ones, all blue ones


class Batch(NamedTuple):
    """What one file of images holds.

    Attributes:
      pixels: [N, 3072] uint8, channel by channel and row by row.
      label: [N] integers.
    """

    pixels: UInt8[np.ndarray, "N P"]
    label: np.ndarray


class Layout(NamedTuple):
    """Which files a version consists of, and how each of them is read.

    Attributes:
      num_classes: Number of classes.
      train: Names of the files of training images, in order.
      test: Name of the file of test images.
      class_names: Name of the file with the names of the classes.
      read_batch: Reads a file of images, given what messages call it and its content.
      read_class_names: Reads the file of names, likewise.
    """

    num_classes: int
    train: tuple[str, ...]
    test: str
    class_names: str
    read_batch: Callable[[str, bytes], Batch]
    read_class_names: Callable[[str, bytes], tuple[str, ...]]


def read_cifar(
    files: tuple[Path, ...],
    layout: Layout,
    read_files: Callable[[Path, Collection[str]], dict[str, bytes]],
) -> Splits:
    """Reads both splits.

    Args:
      files: One archive or directory.
      layout: The version of the data set that it holds.
      read_files: `archive.read_archive` or `archive.read_directory`.

    Returns:
      Images [N, 32, 32, 3] and their labels [N].

    Raises:
      InputError: A file is missing or damaged.
    """
    (path,) = files
    contents = read_files(path, [*layout.train, layout.test, layout.class_names])

    def read_split(*names: str) -> ArraySplit:
        batches = []
        for name in names:
            file = f"{name} in {path}"
            batches.append(layout.read_batch(file, contents[name]))
            check_labels(file, batches[-1].label, layout.num_classes)
        planes = np.concatenate([batch.pixels for batch in batches]).reshape(-1, 3, _SIZE, _SIZE)
        label = np.concatenate([batch.label.astype(np.int32) for batch in batches])
        return ArraySplit(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), label)

    names_file = f"{layout.class_names} in {path}"
    class_names = layout.read_class_names(names_file, contents[layout.class_names])
    if len(class_names) != layout.num_classes:
        raise damaged(names_file, f"names {len(class_names)} classes", f"{layout.num_classes}")
    return Splits(read_split(*layout.train), read_split(layout.test), class_names)


def _pickled_batch(file: str, content: bytes, *, label_key: str) -> Batch:
    batch = read_pickle(file, content)
    pixels = _entry(file, batch, "data")
    label = _entry(file, batch, label_key)
    if not isinstance(pixels, np.ndarray) or (pixels.dtype, pixels.shape[1:]) != (
        np.uint8,
        (_PIXELS,),
    ):
        raise damaged(file, "has something else under 'data'", f"an array uint8 [N, {_PIXELS}]")
    if isinstance(label, list) and all(isinstance(number, int) for number in label):
        label = np.array(label, object)  # of any size, until they are checked
    if not isinstance(label, np.ndarray) or label.ndim != 1:
        raise damaged(file, f"has something else under {label_key!r}", "a list of integers")
    if len(pixels) != len(label):
        raise damaged(file, f"has {len(pixels)} images and {len(label)} labels", "the same number")
    return Batch(pixels, label)


def _pickled_class_names(file: str, content: bytes, *, key: str) -> tuple[str, ...]:
    names = _entry(file, read_pickle(file, content), key)
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise damaged(file, f"has something else under {key!r}", "a list of names")
    return tuple(name.decode("latin1") if isinstance(name, bytes) else name for name in names)


def _entry(file: str, batch: dict[str, Any], key: str) -> Any:
    if key not in batch:
        raise damaged(file, f"has the keys {sorted(batch)}", f"{key!r} among them")
    return batch[key]


def _binary_batch(file: str, content: bytes, *, label_bytes: int) -> Batch:
    size = label_bytes + _PIXELS
    if len(content) % size:
        raise damaged(
            file,
            f"has {len(content)} bytes",
            f"a multiple of {size}, which is {label_bytes} for labels and {_PIXELS} for pixels",
        )
    record = np.frombuffer(content, np.uint8).reshape(-1, size)
    return Batch(record[:, label_bytes:], record[:, label_bytes - 1])  # the fine label comes last


def _lines(file: str, content: bytes) -> tuple[str, ...]:
    lines = content.decode(errors="replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

CIFAR10_PICKLED = Layout(
    num_classes=10,
    train=_BATCHES,
    test="test_batch",
    class_names="batches.meta",
    read_batch=functools.partial(_pickled_batch, label_key="labels"),
    read_class_names=functools.partial(_pickled_class_names, key="label_names"),
)
CIFAR10_BINARY = Layout(
    num_classes=10,
    train=tuple(f"{name}.bin" for name in _BATCHES),
    test="test_batch.bin",
    class_names="batches.meta.txt",
    read_batch=functools.partial(_binary_batch, label_bytes=1),
    read_class_names=_lines,
)
CIFAR100_PICKLED = Layout(
    num_classes=100,
    train=("train",),
    test="test",
    class_names="meta",
    read_batch=functools.partial(_pickled_batch, label_key="fine_labels"),
    read_class_names=functools.partial(_pickled_class_names, key="fine_label_names"),
)
CIFAR100_BINARY = Layout(
    num_classes=100,
    train=("train.bin",),
    test="test.bin",
    class_names="fine_label_names.txt",
    read_batch=functools.partial(_binary_batch, label_bytes=2),
    read_class_names=_lines,
)
