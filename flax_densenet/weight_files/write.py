"""Writing weight files: whole or not at all, and never over what is there unless asked."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flax_densenet.errors import InputError, SavingFailed
from flax_densenet.weight_files.orbax_files import is_checkpoint, save_orbax
from flax_densenet.weight_files.safetensors_files import save_safetensors
from flax_densenet.weight_files.torch_files import save_torch

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def write_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], *, overwrite: bool
) -> None:
    """Writes a safetensors file.

    Args:
      path: The file; a link is followed.
      arrays: Arrays by name.
      metadata: Text by name, for the header.
      overwrite: Whether to replace a file that is there.

    Raises:
      InputError: The target is there or its directory is not, or an array cannot be written.
      SavingFailed: Writing failed; what was there is untouched.
    """
    with _written_whole(Path(path), overwrite=overwrite) as unfinished:
        save_safetensors(unfinished, arrays, metadata)


def write_torch(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    *,
    overwrite: bool,
    around: Callable[[dict[str, Any]], Any] | None = None,
) -> None:
    """Writes a PyTorch state dict, which `torch.load(weights_only=True)` reads.

    Args:
      path: The file; a link is followed.
      arrays: Arrays by name.
      overwrite: Whether to replace a file that is there.
      around: From the tensors by name to what is written, if that is not the state dict alone.

    Raises:
      InputError: PyTorch is not installed, the target is there or its directory is not, or an array
        cannot be written.
      SavingFailed: Writing failed; what was there is untouched.
    """
    with _written_whole(Path(path), overwrite=overwrite) as unfinished:
        with unfinished.open("xb") as file:
            save_torch(file, arrays, around)


def write_orbax(
    path: Path, variables: Mapping[str, Any], metadata: Mapping[str, str], *, overwrite: bool
) -> None:
    """Writes a directory with one Orbax checkpoint.

    Args:
      path: The directory, which is created; a link is followed.
      variables: Nested dictionaries of arrays.
      metadata: Text by name.
      overwrite: Whether to replace a checkpoint that is there; another directory never is.

    Raises:
      InputError: The target is there or its parent is not, or an array cannot be written.
      SavingFailed: Writing failed; what was there is untouched.
    """
    with _written_whole(Path(path), overwrite=overwrite, is_directory=True) as unfinished:
        save_orbax(unfinished, variables, metadata)


@contextlib.contextmanager
def _written_whole(path: Path, *, overwrite: bool, is_directory: bool = False) -> Iterator[Path]:
    """Gives a path beside the target, and moves what is written there to the target."""
    target = Path(os.path.realpath(path))
    _check_target(path, target, overwrite=overwrite, is_directory=is_directory)
    # Short, since the name of the target may be as long as names can be.
    unfinished = target.parent / f".{secrets.token_hex(8)}.unfinished"
    try:
        if is_directory:
            # Orbax leaves files beside its target, too.
            unfinished.mkdir()
            yield unfinished / "new"
            _flush_tree(unfinished / "new")
            _move_directory(unfinished / "new", target, overwrite=overwrite)
            return
        yield unfinished
        _flush(unfinished)
        if overwrite:
            unfinished.replace(target)
        else:
            _move_to_free_name(unfinished, target)
        _flush(target.parent)
    except FileExistsError as error:
        raise _already_there(path) from error
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # Orbax and its storage raise all of them
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = error.strerror if isinstance(error, OSError) and error.strerror else lines[0]
        raise SavingFailed(f"{path} cannot be written ({reason}); nothing was changed") from error
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                unfinished.unlink()


def _check_target(path: Path, target: Path, *, overwrite: bool, is_directory: bool) -> None:
    if not target.parent.is_dir():
        raise InputError(f"{path} cannot be written: {target.parent} is no directory; create it")
    if not target.exists():
        return
    if not overwrite:
        raise _already_there(path)
    if is_directory and not (target.is_dir() and is_checkpoint(target)):
        raise InputError(
            f"{path} is there and is no Orbax checkpoint, so it is not replaced; give another name"
        )
    if not is_directory and not target.is_file():
        raise InputError(f"{path} is there and is no file, so it is not replaced; give another")


def _already_there(path: Path) -> InputError:
    return InputError(f"{path} is already there; give another name, or --overwrite to replace it")


def _move_to_free_name(unfinished: Path, target: Path) -> None:
    try:
        target.hardlink_to(unfinished)  # unlike a renaming, fails if the name is taken meanwhile
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if target.exists():
            raise FileExistsError(target) from error
        unfinished.rename(target)


def _move_directory(new: Path, target: Path, *, overwrite: bool) -> None:
    """Replaces a directory; between two renamings the old one has another name."""
    if not target.exists():
        new.rename(target)
    elif not overwrite:
        raise FileExistsError(target)
    else:
        # Not within what is removed after a failure.
        aside = target.parent / f".{secrets.token_hex(8)}.replaced"
        target.rename(aside)
        try:
            new.rename(target)
        except BaseException:
            aside.rename(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    _flush(target.parent)


def _flush_tree(directory: Path) -> None:
    for path in [*directory.rglob("*"), directory]:
        _flush(path)


def _flush(path: Path) -> None:
    """Waits until a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems do not flush directories
            raise
    finally:
        os.close(descriptor)
