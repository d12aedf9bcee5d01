"""From what `--dataset` says to a data set."""

import difflib
from typing import NamedTuple, NoReturn

from flax_densenet.data import digits, tfds
from flax_densenet.data.catalog import CATALOG
from flax_densenet.data.dataset import Dataset
from flax_densenet.data.find import find_source
from flax_densenet.errors import InputError

_TFDS_PREFIX = "tfds:"
_NAMES = ("digits", *CATALOG)


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
    if name in CATALOG:
        return Description(CATALOG[name].num_classes, CATALOG[name].in_channels)
    if _is_tfds(name):
        return Description(*tfds.describe_tfds(name.removeprefix(_TFDS_PREFIX), data_dir))
    _refuse(name)


def load_dataset(name: str, data_dir: str | None) -> Dataset:
    """Reads a data set into memory, after downloading it where nothing else helps.

    Args:
      name: "digits", one of `CATALOG` or "tfds:<name>".
      data_dir: Where the files are; not needed for digits. For a name of `CATALOG`, None looks in
        the usual places and then downloads.

    Raises:
      InputError: There is no such data set, or it cannot be trained on.
    """
    if name == "digits":
        return digits.load_digits()
    if name in CATALOG:
        train, test, class_names = find_source(name, data_dir).read()
        statistics = CATALOG[name].published_statistics
        return Dataset(name, train, test, class_names, published_statistics=statistics)
    if _is_tfds(name):
        return tfds.load_tfds(name.removeprefix(_TFDS_PREFIX), data_dir)
    _refuse(name)


def _is_tfds(name: str) -> bool:
    return name.startswith(_TFDS_PREFIX) and name != _TFDS_PREFIX


def _refuse(name: str) -> NoReturn:
    close = difflib.get_close_matches(name.lower().replace("-", "_"), _NAMES, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise InputError(
        f"dataset (={name!r}) must be {', '.join(_NAMES)} or tfds:<name>, such as "
        f"tfds:cifar10{hint}"
    )
