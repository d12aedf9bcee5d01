"""Writing a file or a directory: whole or not at all, and never over what is there unless asked."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from flax_densenet.errors import InputError, SavingFailed
from flax_densenet.weights.files.orbax_files import is_checkpoint

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@contextlib.contextmanager
def written_whole(path: Path, *, overwrite: bool, is_directory: bool = False) -> Iterator[Path]:
    """Gives a path beside the target, and moves what is written there to the target.

    Args:
      path: The target; a link is followed.
      overwrite: Whether to replace what is there.
      is_directory: Whether it is an Orbax checkpoint instead of a file.

    Raises:
      InputError: The target is there or its directory is not.
      SavingFailed: Writing failed; what was there is untouched.
    """
    check_target(path, overwrite=overwrite, is_directory=is_directory)
    target = Path(os.path.realpath(path))
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
    except (InputError, SavingFailed):
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


def check_target(path: Path, *, overwrite: bool, is_directory: bool = False) -> None:
    """Checks what `written_whole` would refuse, before work is done for it.

    Args:
      path: The target.
      overwrite: Whether to replace what is there.
      is_directory: Whether it is an Orbax checkpoint instead of a file.

    Raises:
      InputError: The target is there or its directory is not.
    """
    target = Path(os.path.realpath(path))
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
