"""Contents of a weight file of any format, and the error that refuses a file."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flax_densenet.errors import InputError
from flax_densenet.network.layers import ArrayPath
from flax_densenet.weights.files.modules import ModuleNode

FORMATS = (
    "PyTorch (.pth), safetensors, Keras (.h5, .weights.h5, .keras) and Orbax directories are read"
)
COPY_AGAIN = "copy or download it again"
_MOST_CHARACTERS = 300
# Weights hardly shrink, but the zeros of an optimizer do, and arrays of a file may share memory.
_BYTES_ABOVE_FILE = 2**30


class Contents(NamedTuple):
    """The arrays of a weight file, and everything else in it.

    Attributes:
      format: Name of the format, for people: "PyTorch zip", "PyTorch legacy", "safetensors",
        "Keras HDF5", "Keras archive" or "Orbax".
      arrays: Arrays by their path in the nested dictionaries of the file, in its order; each owns
        its memory. Indices of lists are digits: ("optimizer", "state", "0", "momentum_buffer").
      settings: Other plain values: numbers, text, bools, None and lists of them.
      metadata: Text by name, from safetensors files and our Orbax directories and Keras files; {}
        for others.
      modules: Modules of PyTorch that were saved whole, by the path of the container and the dotted
        name of the module in it. Their arrays have the names of a state dict.
      notes: What the user should know about how it was read.
      read_instead: The checkpoint that was read, if a newer one in the directory is damaged.
    """

    format: str
    arrays: dict[ArrayPath, np.ndarray]
    settings: dict[ArrayPath, Any]
    metadata: dict[str, str]
    modules: Mapping[ArrayPath, ModuleNode] = {}
    notes: tuple[str, ...] = ()
    read_instead: Path | None = None


def refused(path: Path, why: str, remedy: str) -> InputError:
    """Returns the error for a file.

    Args:
      path: The file or directory.
      why: What is wrong, after the file's name and size; may quote the file.
      remedy: What to do.

    Returns:
      An error of one line, without characters that could control a terminal.
    """
    try:
        size = "directory" if path.is_dir() else f"{path.stat().st_size:,} bytes"
    except OSError:
        size = "unknown size"
    why = " ".join(why.split())
    if len(why) > _MOST_CHARACTERS:
        why = why[:_MOST_CHARACTERS] + "..."
    line = f"{path} ({size}) {why}; {remedy}"
    return InputError("".join(c if c.isprintable() else "?" for c in line))


def damaged(path: Path, error: Exception) -> InputError:
    """Returns the error for a file that must be damaged, after what reading it raised."""
    lines = str(error).strip().splitlines() or [""]
    why = f"is damaged or cut off ({type(error).__name__}: {lines[0]})"
    return refused(path, why, COPY_AGAIN)


def check_members(
    path: Path, members: Sequence[zipfile.ZipInfo], *, kind: str, writer: str, remedy: str
) -> None:
    """Refuses a zip archive whose members are packed, or claim to be larger than the archive.

    Args:
      path: The file.
      members: Its members.
      kind: What it is, with an article.
      writer: What should have written it, and packs nothing.
      remedy: What to do.

    Raises:
      InputError: They are.
    """
    if any(m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1 for m in members):
        why = f"is {kind} with compressed or encrypted members, which {writer} does not write"
        raise refused(path, why, remedy)
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise refused(path, "claims members larger than itself", COPY_AGAIN)


def check_claim(path: Path, claimed: int, size: int) -> None:
    """Refuses a file whose arrays would take absurdly more memory than the file has bytes.

    Args:
      path: The file or directory.
      claimed: Bytes of all its arrays.
      size: Bytes on the disk.

    Raises:
      InputError: The claim is absurd.
    """
    if claimed > 2 * size + _BYTES_ABOVE_FILE:
        raise refused(
            path,
            f"claims {claimed:,} bytes of arrays, which so small a file does not hold",
            "it is damaged or made to fill the memory; get it again from where you trust",
        )
