"""Results, errors and checks of all readers of original files."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from flax_densenet.data.dataset import ArraySplit
from flax_densenet.errors import InputError


class Splits(NamedTuple):
    """The splits of a data set in memory.

    Attributes:
      train: Images to train on.
      test: Images to report the error on.
      class_names: One name per class.
    """

    train: ArraySplit
    test: ArraySplit
    class_names: tuple[str, ...]


def read_file(file: Path) -> bytes:
    """Returns the content of a file.

    Raises:
      InputError: It cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error


def unreadable(file: Path, error: OSError) -> InputError:
    """Returns the error for a file that the system cannot read."""
    return InputError(
        f"{file} cannot be read: {error.strerror or error}; wanted a file that you may read; put "
        "the original file there"
    )


def damaged(file: Path | str, got: str, wanted: str) -> InputError:
    """Returns the error for a file with wrong content."""
    return InputError(f"{file} {got}; wanted {wanted}; get the file again")


def check_labels(file: Path | str, label: Integer[np.ndarray, " N"], num_classes: int) -> None:
    """Checks that labels are classes.

    Args:
      file: File of the labels, for messages.
      label: [N] of any integer type.
      num_classes: Number of classes; labels are 0 to `num_classes` - 1.

    Raises:
      InputError: A label is outside the classes.
    """
    outside = np.flatnonzero((label < 0) | (label >= num_classes))
    if outside.size:
        first = outside[0]
        raise damaged(
            file,
            f"has {outside.size} labels outside the {num_classes} classes, first label "
            f"{label[first]} of image {first}",
            f"0 to {num_classes - 1}",
        )
