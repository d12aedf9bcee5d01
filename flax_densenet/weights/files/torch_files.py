"""Reads and writes PyTorch files: zip archives, and the pickles that torch.save wrote before 1.6.

Only `torch.load(weights_only=True)` reads them. Its unpickler calls what it knows and the stand-ins
of `stand_ins.py`; every other name is refused.
"""

import contextlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from flax_densenet.errors import InputError
from flax_densenet.network.layers import ArrayPath
from flax_densenet.pickles import Kept, NotData
from flax_densenet.weights.files.contents import Contents, check_claim, damaged, refused
from flax_densenet.weights.files.legacy_modules import readable
from flax_densenet.weights.files.modules import Module, ModuleNode, walk
from flax_densenet.weights.files.stand_ins import stand_ins
from flax_densenet.weights.files.torch_archive import SAVE_AGAIN, check_archive

if TYPE_CHECKING:
    import torch

_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.serialization.MAGIC_NUMBER, pickled
_DEEPEST = 50
_MOST_ENTRIES = 100_000
_PLAIN = (bool, int, float, complex, str, bytes)
_DTYPES = (
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 "
    "bfloat16 float16 float32 float64 complex64 complex128"
).split()


def is_legacy(head: bytes) -> bool:
    """Returns whether a file with these first bytes is what torch.save wrote before 1.6."""
    return head.startswith(b"\x80") and _MAGIC in head[:40]


def is_tar(head: bytes) -> bool:
    """Returns whether a file with these first bytes is a tar archive, perhaps of old PyTorch."""
    return head[257:262] == b"ustar"


def read_zip(path: Path) -> Contents:
    """Reads a PyTorch file of today's format.

    Args:
      path: The file, a zip archive.

    Returns:
      Its tensors and everything else in it.

    Raises:
      InputError: PyTorch is not installed; or the file is damaged, made to fill the memory, holds
        other than data, or is another zip archive.
    """
    check_archive(path)
    with contextlib.ExitStack() as stack:
        if path.suffix == ".safetensors":
            # torch.load decides by this suffix, and maps no file objects.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            link = folder / "weights.pth"
            link.symlink_to(path.resolve())
        else:
            link = path
        # Mapped, so that each array takes its memory once and lengths in the file are checked.
        return _read(path, "PyTorch zip", lambda torch: _load(torch, str(link), mmap=True))


def read_legacy(path: Path) -> Contents:
    """Reads a PyTorch file of the format before 1.6.

    Args:
      path: The file, for which `is_legacy` is true.

    Returns:
      Its tensors and everything else in it.

    Raises:
      InputError: PyTorch is not installed, or the file is damaged or holds other than data.
    """
    with path.open("rb") as file:
        return _read(path, "PyTorch legacy", lambda torch: _load_legacy(torch, file))


def save_torch(
    file: IO[bytes],
    arrays: Mapping[str, np.ndarray],
    around: Callable[[dict[str, Any]], Any] | None = None,
) -> None:
    """Writes a state dict; equal arrays give equal bytes.

    Args:
      file: The open file.
      arrays: Arrays by name.
      around: Returns what is written, from the tensors by name; the state dict alone if not given.

    Raises:
      InputError: PyTorch is not installed, or has no such dtype.
      OSError: Writing failed.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise InputError(
            "writing PyTorch files needs torch; install flax-densenet[torch], or write a "
            ".safetensors file"
        ) from error
    tensors: dict[str, torch.Tensor] = {}
    for name, given in arrays.items():
        if given.dtype.name not in _DTYPES:
            raise InputError(
                f"{name} ({given.dtype}) cannot be written to a PyTorch file; convert it to one of "
                f"{', '.join(_DTYPES)}"
            )
        array = np.require(given, given.dtype.newbyteorder("="), ["C", "W"]).reshape(given.shape)
        if array.dtype == ml_dtypes.bfloat16:
            tensors[name] = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            tensors[name] = torch.from_numpy(array)
    try:
        torch.save(tensors if around is None else around(tensors), file)
    except RuntimeError as error:  # PyTorch's writer stumbles over the file's error
        cause = error.__context__
        raise (cause if isinstance(cause, OSError) else OSError(str(error))) from error


def _load_legacy(torch: Any, file: IO[bytes]) -> Any:
    with readable(file) as rewritten:
        rewritten.seek(0)
        return _load(torch, rewritten, mmap=False)


def _load(torch: Any, file: Any, *, mmap: bool) -> Any:
    with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins()):
        warnings.simplefilter("ignore")  # about the file's age
        # Strings of Python 2, in which NumPy's numbers are, can be any bytes.
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap, encoding="latin1")


def _read(path: Path, format_name: str, load: Callable[[Any], Any]) -> Contents:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise refused(
            path,
            "is a PyTorch file",
            "reading PyTorch files needs torch; install flax-densenet[torch], or give a "
            ".safetensors file",
        ) from error
    try:
        tree = load(torch)
    except MemoryError:
        raise
    except NotData as error:
        raise refused(path, f"holds {error}", SAVE_AGAIN) from error
    except Exception as error:  # damaged pickles raise nearly everything
        if (name := _refused_name(str(error))) is not None:
            raise refused(
                path, f"names {name}, which is not data; nothing in it was run", SAVE_AGAIN
            ) from error
        if unsupported := re.search(r"Unsupported operand \d+|persistent_load", str(error)):
            why = f"is pickled in a way that is not read safely ({unsupported[0]})"
            raise refused(path, why, SAVE_AGAIN) from error
        raise damaged(path, error) from error
    if not isinstance(tree, dict | list | tuple | Module):
        why = f"holds one {type(tree).__name__} and no names"
        raise refused(path, why, SAVE_AGAIN)
    tensors: dict[ArrayPath, torch.Tensor | np.ndarray] = {}
    settings: dict[ArrayPath, Any] = {}
    modules: dict[ArrayPath, ModuleNode] = {}
    for count, (keys, leaf) in enumerate(_leaves(path, tree, ())):
        if count == _MOST_ENTRIES:
            raise refused(path, f"has over {_MOST_ENTRIES:,} entries", SAVE_AGAIN)
        if keys in tensors or keys in settings:
            raise refused(path, f"has two entries called {'/'.join(keys)!r}", SAVE_AGAIN)
        if isinstance(leaf, torch.Tensor):
            _check_tensor(path, keys, leaf)
            tensors[keys] = leaf
        elif isinstance(leaf, np.ndarray):
            tensors[keys] = leaf
        elif isinstance(leaf, ModuleNode):
            modules[keys] = leaf
        elif leaf is None or isinstance(leaf, (*_PLAIN, list)):
            settings[keys] = leaf
        elif isinstance(leaf, torch.dtype | torch.device):
            settings[keys] = str(leaf)
        else:
            why = f"holds a {type(leaf).__name__} under {'/'.join(keys)!r}"
            raise refused(path, why, SAVE_AGAIN)
    check_claim(path, sum(t.nbytes for t in tensors.values()), path.stat().st_size)
    arrays = {
        keys: tensor if isinstance(tensor, np.ndarray) else _array(tensor)
        for keys, tensor in tensors.items()
    }
    return Contents(format_name, arrays, settings, {}, modules)


def _refused_name(message: str) -> str | None:
    """Returns the name that the unpickler refused, if its message says so."""
    for pattern in (
        r"GLOBAL (\S+) was not an allowed global",
        r"unsupported GLOBAL (\S+) whose module",
        r"unrecognized function (.+)",
        r"allowlisted via `add_safe_globals`,? but got (.+)",
        r"``(\S+)`` (?:and \S+ )?must be imported",
    ):
        if found := re.search(pattern, message):
            return found[1]
    return None


def _leaves(path: Path, tree: Any, keys: ArrayPath) -> Iterator[tuple[ArrayPath, Any]]:
    if len(keys) > _DEEPEST:  # also ends containers that contain themselves
        raise refused(path, f"nests entries more than {_DEEPEST} deep", SAVE_AGAIN)
    if isinstance(tree, Kept):
        tree = tree.content
    if isinstance(tree, Module):
        try:
            for name, node, arrays in walk(tree):
                yield (*keys, name), node
                for key, array in arrays.items():
                    yield (*keys, f"{name}.{key}" if name else key), array
        except NotData as error:
            raise refused(path, f"holds {error}", SAVE_AGAIN) from error
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key is not None and not isinstance(key, _PLAIN):
                why = f"has a {type(key).__name__} as a key under {'/'.join(keys)!r}"
                raise refused(path, why, SAVE_AGAIN)
            name = key.decode("latin1") if isinstance(key, bytes) else str(key)
            yield from _leaves(path, value, (*keys, name))
    elif isinstance(tree, list | tuple | set):
        if all(item is None or isinstance(item, _PLAIN) for item in tree):
            yield keys, list(tree)
        else:
            for index, item in enumerate(tree):
                yield from _leaves(path, item, (*keys, str(index)))
    else:
        yield keys, bytes(tree) if isinstance(tree, bytearray) else tree


def _check_tensor(path: Path, keys: ArrayPath, tensor: "torch.Tensor") -> None:
    import torch

    name = "/".join(keys)
    got = None
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        got = f"a {type(tensor).__name__}"
    elif tensor.is_quantized or tensor.is_nested or tensor.layout != torch.strided:
        got = "quantized" if tensor.is_quantized else f"of the layout {tensor.layout}"
    elif tensor.device.type != "cpu":
        got = f"without data (device {tensor.device})"
    elif str(tensor.dtype).removeprefix("torch.") not in _DTYPES:
        got = f"of {tensor.dtype}"
    if got:
        why = f"holds {name!r}, which is {got}"
        raise refused(path, why, "convert it to a dense tensor of float32 where it was made")


def _array(tensor: "torch.Tensor") -> np.ndarray:
    import torch

    tensor = tensor.detach().resolve_conj().resolve_neg()
    # Copies, so that nothing depends on the mapped file any more.
    if tensor.dtype == torch.bfloat16:
        return np.array(tensor.view(torch.int16).numpy(), order="C").view(ml_dtypes.bfloat16)
    return np.array(tensor.numpy(), order="C")
