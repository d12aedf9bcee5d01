"""Reads weight files of any known format, and says what a file is that it cannot read."""

import re
import stat
from pathlib import Path

from flax_densenet.errors import InputError
from flax_densenet.weights.files.contents import FORMATS, Contents, refused
from flax_densenet.weights.files.keras_files import (
    is_keras_archive,
    read_keras,
    read_keras_archive,
)
from flax_densenet.weights.files.orbax_files import read_orbax
from flax_densenet.weights.files.safetensors_files import read_safetensors
from flax_densenet.weights.files.torch_files import is_legacy, is_tar, read_legacy, read_zip

_AGAIN = "download it again"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7-zip",
    b"Rar!": "rar",
}
# MessagePack: a map, then a short text, its first key.
_MSGPACK = re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:[\xa1-\xbf]|\xd9.)[\w/.]", re.DOTALL)


def read_weights(path: Path) -> Contents:
    """Reads a weight file of any known format; nothing that it holds is run.

    Args:
      path: A file, or the directory of an Orbax checkpoint or of a run; links are followed.

    Returns:
      Its arrays and everything else in it.

    Raises:
      InputError: It cannot be read, or it is of no known format, damaged or made to do harm; one
        line says which.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return read_orbax(path)
        if not stat.S_ISREG(mode):
            raise refused(path, "is neither a file nor a directory", "give a weight file")
        return _read_file(path)
    except FileNotFoundError as error:
        if {"http:", "https:"} & set(path.parts):
            address = "https://" + str(path).partition(":/")[2].lstrip("/")
            raise InputError(
                f"{address} is an address, and a Path of it is none; give it as text"
            ) from error
        raise InputError(f"{path} does not exist; give a weight file") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise refused(path, f"cannot be read ({reason})", "give another file") from error
    except MemoryError as error:
        raise refused(path, "does not fit into the memory", "use a larger machine") from error


def _read_file(path: Path) -> Contents:
    with path.open("rb") as file:
        head = file.read(4096)
        user_block = 512  # what an HDF5 file may begin with; a power of two
        is_hdf5 = head.startswith(_HDF5)
        while not is_hdf5 and user_block <= 2**20:
            file.seek(user_block)
            is_hdf5 = file.read(len(_HDF5)) == _HDF5
            user_block *= 2
    if not head:
        raise refused(path, "is empty", f"the download or the disk failed; {_AGAIN}")
    if head.startswith(b"PK\x03\x04"):
        return read_keras_archive(path) if is_keras_archive(path) else read_zip(path)
    if is_legacy(head):
        return read_legacy(path)
    if is_hdf5:
        return read_keras(path)
    if (text := _text(head)) is not None:
        raise _refused_text(path, text)
    if head[8:9] == b"{":
        return read_safetensors(path)
    raise _refused_binary(path, head)


def _text(head: bytes) -> str | None:
    """Returns the beginning of a text file, and None for any other."""
    # The last character may be cut off.
    text = head.decode("utf-8", "replace").rstrip("\ufffd").removeprefix("\ufeff")
    is_text = all(c.isprintable() or c.isspace() for c in text) and "\ufffd" not in text
    return text if text and is_text else None


def _refused_text(path: Path, text: str) -> InputError:
    begin = text.lstrip()[:40]
    if text.startswith("version https://git-lfs"):
        return refused(
            path,
            "is a git-LFS pointer, which stands for the file",
            "fetch the file itself with git lfs pull",
        )
    if begin.lower().startswith(("<!doctype html", "<html", "<?xml", "<head")):
        return refused(
            path,
            f"is a web page, not weights (it begins with {begin!r})",
            "the address gave an error or a login page; open it in a browser, and download again",
        )
    kind = "JSON" if begin.startswith(("{", "[")) else "text"
    return refused(path, f"is {kind}, not weights (it begins with {begin!r})", FORMATS)


def _refused_binary(path: Path, head: bytes) -> InputError:
    for begin, name in _COMPRESSED.items():
        if head.startswith(begin):
            return refused(path, f"is compressed with {name}", "decompress it first")
    if is_tar(head):
        return refused(
            path,
            "is a tar archive, perhaps of PyTorch before 0.1.10, whose format cannot be read "
            "without running what it holds",
            "unpack it, or load it with PyTorch where you trust it and save it again with "
            "torch.save(model.state_dict(), FILE)",
        )
    if re.match(rb"\x80[\x02-\x05]", head):
        return refused(
            path,
            "is a pickle that torch.save did not make; pickles can run code and are not read",
            f"save the arrays again as safetensors where the file was made; {FORMATS}",
        )
    if _MSGPACK.match(head):
        return refused(
            path,
            "looks like MessagePack, as flax.serialization writes it",
            f"load it with Flax and save the arrays again; {FORMATS}",
        )
    why = f"is of no known format (it begins with the bytes {head[:16].hex(' ')})"
    return refused(path, why, FORMATS)
