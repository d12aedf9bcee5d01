"""Reads CIFAR-10 and CIFAR-100, in the pickled and in the binary version of their authors.

Format: https://www.cs.toronto.edu/~kriz/cifar.html. Axes: N images.
"""

import functools
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from flax_densenet.data.dataset import ArraySplit
from flax_densenet.data.readers.originals import Splits, check_labels, damaged
from flax_densenet.errors import InputError
from flax_densenet.pickles import Kept, UnknownName, as_text, load_pickle, numpy_stand_ins

_SIZE = 32  # pixels
_PIXELS = 3 * _SIZE * _SIZE  # bytes of an image: all red ones, all green ones, all blue ones


class Batch(NamedTuple):
    """The content of one file of images.

    Attributes:
      pixels: [N, 3072] uint8, channel by channel and row by row.
      label: [N] integers.
    """

    pixels: UInt8[np.ndarray, "N P"]
    label: np.ndarray


class Layout(NamedTuple):
    """The files of a version, and how each of them is read.

    Attributes:
      num_classes: Number of classes.
      train: Names of the files of training images, in order.
      test: Name of the file of test images.
      class_names: Name of the file with the names of the classes.
      read_batch: Reads a file of images from its name in messages and its content.
      read_class_names: Reads the file of names from the same two.
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
    batch = _read_pickle(file, content)
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
    names = _entry(file, _read_pickle(file, content), key)
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise damaged(file, f"has something else under {key!r}", "a list of names")
    return tuple(map(as_text, names))


def _read_pickle(file: str, content: bytes) -> dict[str, Any]:
    """Returns a pickled dictionary; strings of Python 2 among its values are bytes."""
    names = numpy_stand_ins("[iu][1248]") | {"_codecs.encode": _encode}
    try:
        value = load_pickle(content, names)
    except UnknownName as error:
        raise InputError(
            f"{file} is a pickle that names {error}; wanted numbers, names and numpy arrays alone; "
            "nothing in it was run; get the file again from where you trust"
        ) from None
    except Exception as error:  # damaged pickles raise nearly everything
        got = f"cannot be unpickled ({type(error).__name__}: {error})"
        raise damaged(file, got, "a whole pickle") from error
    if not isinstance(value, dict):
        raise damaged(file, f"holds a {type(value).__name__}", "a pickled dictionary")
    return {
        as_text(k): item.content if isinstance(item, Kept) else item for k, item in value.items()
    }


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for codecs.encode, with which Python 3 writes bytes for Python 2."""
    return text.encode("latin1")


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
