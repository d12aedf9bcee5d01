"""Table of the data sets that `--dataset` takes by name."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from flax_densenet.data.dataset import ChannelStatistics
from flax_densenet.data.readers import cifar, idx
from flax_densenet.data.readers.archive import read_archive, read_directory
from flax_densenet.data.readers.originals import Splits
from flax_densenet.data.readers.svhn import read_svhn


class FileForm(NamedTuple):
    """A form in which people have a data set.

    Attributes:
      names: Files or directories, all in the same directory.
      read: Reads them, given in that order.
      endings: Suffixes that each name may have.
    """

    names: tuple[str, ...]
    read: Callable[[tuple[Path, ...]], Splits]
    endings: tuple[str, ...] = ("",)


class CatalogRow(NamedTuple):
    """A data set: its classes, its files and where to find them.

    Attributes:
      num_classes: Number of classes.
      in_channels: Channels of an image.
      published_statistics: Mean and deviation of the pixels; None takes those of the training
        images.
      forms: Forms that can be read; the first one found is taken.
      subdirectories: Usual places of the files in a directory of data sets.
      tfds_name: Name in tensorflow-datasets.
      tfds_train_splits: Its splits to train on.
      system_directories: Where packages of the operating system put the files.
      smaller: Name of a data set that is a part of this one and needs fewer files.
    """

    num_classes: int
    in_channels: int
    published_statistics: ChannelStatistics | None
    forms: tuple[FileForm, ...]
    subdirectories: tuple[str, ...]
    tfds_name: str
    tfds_train_splits: tuple[str, ...] = ("train",)
    system_directories: tuple[str, ...] = ()
    smaller: str | None = None


_DIGITS = tuple("0123456789")
_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def _cifar_form(name: str, layout: cifar.Layout) -> FileForm:
    read_files = read_archive if name.endswith(".tar.gz") else read_directory
    return FileForm(
        (name,), functools.partial(cifar.read_cifar, layout=layout, read_files=read_files)
    )


def _svhn_form(*names: str) -> FileForm:
    return FileForm(names, functools.partial(read_svhn, class_names=_DIGITS))


def _idx_form(class_names: tuple[str, ...]) -> FileForm:
    read = functools.partial(idx.read_idx, class_names=class_names)
    return FileForm(idx.NAMES, read, endings=("", ".gz"))


_SVHN_STATISTICS = ChannelStatistics((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))  # paper, section 4.1

CATALOG = {
    "cifar10": CatalogRow(
        num_classes=10,
        in_channels=3,
        # As in the authors' code; so are CIFAR-100's.
        published_statistics=ChannelStatistics((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
        forms=(
            _cifar_form("cifar-10-python.tar.gz", cifar.CIFAR10_PICKLED),
            _cifar_form("cifar-10-batches-py", cifar.CIFAR10_PICKLED),
            _cifar_form("cifar-10-binary.tar.gz", cifar.CIFAR10_BINARY),
            _cifar_form("cifar-10-batches-bin", cifar.CIFAR10_BINARY),
        ),
        subdirectories=("cifar10", "CIFAR10"),
        tfds_name="cifar10",
    ),
    "cifar100": CatalogRow(
        num_classes=100,
        in_channels=3,
        published_statistics=ChannelStatistics((129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
        forms=(
            _cifar_form("cifar-100-python.tar.gz", cifar.CIFAR100_PICKLED),
            _cifar_form("cifar-100-python", cifar.CIFAR100_PICKLED),
            _cifar_form("cifar-100-binary.tar.gz", cifar.CIFAR100_BINARY),
            _cifar_form("cifar-100-binary", cifar.CIFAR100_BINARY),
        ),
        subdirectories=("cifar100", "CIFAR100"),
        tfds_name="cifar100",
    ),
    "svhn": CatalogRow(
        num_classes=10,
        in_channels=3,
        published_statistics=_SVHN_STATISTICS,
        forms=(_svhn_form("train_32x32.mat", "extra_32x32.mat", "test_32x32.mat"),),
        subdirectories=("svhn", "SVHN"),
        tfds_name="svhn_cropped",
        tfds_train_splits=("train", "extra"),
        smaller="svhn_without_extra",
    ),
    "svhn_without_extra": CatalogRow(
        num_classes=10,
        in_channels=3,
        published_statistics=_SVHN_STATISTICS,
        forms=(_svhn_form("train_32x32.mat", "test_32x32.mat"),),
        subdirectories=("svhn", "SVHN"),
        tfds_name="svhn_cropped",
    ),
    "mnist": CatalogRow(
        num_classes=10,
        in_channels=1,
        published_statistics=None,
        forms=(_idx_form(_DIGITS),),
        subdirectories=("MNIST/raw", "MNIST", "mnist"),
        tfds_name="mnist",
    ),
    "fashion_mnist": CatalogRow(
        num_classes=10,
        in_channels=1,
        published_statistics=None,
        forms=(_idx_form(_FASHION),),
        subdirectories=("FashionMNIST/raw", "FashionMNIST", "fashion_mnist", "fashion-mnist"),
        tfds_name="fashion_mnist",
        system_directories=("/usr/share/datasets/fashion-mnist",),  # Debian's package
    ),
}
