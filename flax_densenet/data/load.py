"""From what `--dataset` says to a data set."""

from typing import NamedTuple

from flax_densenet.data import digits, tfds
from flax_densenet.data.dataset import Dataset
from flax_densenet.errors import InputError

_TFDS_PREFIX = "tfds:"
_WANTED = "digits or tfds:<name>, such as tfds:cifar10"


class Description(NamedTuple):
    """What a network must know of a data set before it is read."""

    num_classes: int
    in_channels: int


def describe_dataset(name: str, data_dir: str | None) -> Description:
    """Returns what the network must know, without reading the images.

    Raises:
      InputError: There is no such data set.
    """
    if name == "digits":
        return Description(digits.NUM_CLASSES, digits.NUM_CHANNELS)
    return Description(*tfds.describe_tfds(_tfds_name(name), data_dir))


def load_dataset(name: str, data_dir: str | None) -> Dataset:
    """Reads a data set into memory.

    Args:
      name: "digits" or "tfds:<name>".
      data_dir: Where the files are; not needed for digits.

    Raises:
      InputError: There is no such data set, or it cannot be trained on.
    """
    if name == "digits":
        return digits.load_digits()
    return tfds.load_tfds(_tfds_name(name), data_dir)


def _tfds_name(name: str) -> str:
    if not name.startswith(_TFDS_PREFIX) or name == _TFDS_PREFIX:
        raise InputError(f"dataset (={name!r}) must be {_WANTED}")
    return name.removeprefix(_TFDS_PREFIX)
