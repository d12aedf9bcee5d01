"""Writes a file or a directory whole, or leaves what is there.

What is written first has another name beside the target. It is moved to the target once it is on
the disk. So a full disk, a killed process or a power failure leaves either the old content or the
new one.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from flax_densenet.errors import InputError, SavingFailed

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_LONGEST_SUFFIX = 16  # characters


@contextlib.contextmanager
def written_whole(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Gives the path of an unfinished file, which becomes the target when the block ends.

    Args:
      path: The target; a link is followed.
      overwrite: Whether to replace a file that is there.

    Yields:
      A path beside the target, with the same suffix. Nothing is there yet.

    Raises:
      InputError: The target is there and is not to be replaced, or its directory is missing.
      SavingFailed: Writing failed; what was there is untouched.
    """
    check_target(path, overwrite=overwrite)
    target = Path(os.path.realpath(path))
    suffix = target.suffix if len(target.suffix) <= _LONGEST_SUFFIX else ""
    unfinished = _beside(target, "unfinished", suffix)
    try:
        with _failures_named(path):
            yield unfinished
            _flush(unfinished)
            if overwrite:
                unfinished.replace(target)
            else:
                _move_to_free_name(path, unfinished, target)
            _flush(target.parent)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


@contextlib.contextmanager
def directory_written_whole(
    path: Path, *, overwrite: bool, check_replaced: Callable[[Path], None]
) -> Iterator[Path]:
    """Gives the path of an unfinished directory, which becomes the target when the block ends.

    Args:
      path: The target; a link is followed.
      overwrite: Whether to replace a directory that is there.
      check_replaced: Raises InputError if what is there must not be replaced.

    Yields:
      A path in a new directory beside the target. Nothing is there yet.

    Raises:
      InputError: The target is there and is not to be replaced, or its parent is missing.
      SavingFailed: Writing failed; what was there is untouched.
    """
    target = Path(os.path.realpath(path))
    _check_place(path, target, overwrite=overwrite)
    if target.exists():
        check_replaced(target)
    # One more directory, since some libraries leave files beside what they write.
    scratch = _beside(target, "unfinished")
    new = scratch / "new"
    try:
        with _failures_named(path):
            scratch.mkdir()
            try:
                yield new
            except InputError:
                raise
            except (ValueError, RuntimeError) as error:  # a storage library's words for OSError
                raise OSError(str(error)) from error
            _flush_tree(new)
            _move_directory(path, new, target, overwrite=overwrite)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, and replaces the one that is there.

    Args:
      path: The file; a link is followed.
      text: Its content.

    Raises:
      InputError: Its directory is missing.
      SavingFailed: Writing failed; what was there is untouched.
    """
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def make_directory(path: Path) -> None:
    """Creates a directory and its parents, if they are missing.

    Raises:
      SavingFailed: It cannot be created.
    """
    with _failures_named(path):
        path.mkdir(parents=True, exist_ok=True)


def check_target(path: Path, *, overwrite: bool) -> None:
    """Checks what `written_whole` would refuse, before work is done for it.

    Args:
      path: The file to write.
      overwrite: Whether to replace a file that is there.

    Raises:
      InputError: The target is there and is not to be replaced, or its directory is missing.
    """
    target = Path(os.path.realpath(path))
    _check_place(path, target, overwrite=overwrite)
    if target.exists() and not target.is_file():
        raise InputError(f"{path} is there and is no file, so it is not replaced; give another")


def _check_place(path: Path, target: Path, *, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise InputError(f"{path} cannot be written: {target.parent} is no directory; create it")
    if target.exists() and not overwrite:
        raise _already_there(path)


def _already_there(path: Path) -> InputError:
    return InputError(f"{path} is already there; give another name, or --overwrite to replace it")


@contextlib.contextmanager
def _failures_named(path: Path) -> Iterator[None]:
    """Turns a full disk and the like into one error that names the target."""
    try:
        yield
    except OSError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = error.strerror or lines[0]
        raise SavingFailed(f"{path} cannot be written ({reason}); nothing was changed") from error


def _beside(target: Path, word: str, suffix: str = "") -> Path:
    """Returns a new name, which is short: the target's may be as long as names can be."""
    return target.parent / f".{secrets.token_hex(8)}.{word}{suffix}"


def _move_to_free_name(path: Path, unfinished: Path, target: Path) -> None:
    try:
        target.hardlink_to(unfinished)  # unlike a renaming, fails if the name is taken meanwhile
    except FileExistsError as error:
        raise _already_there(path) from error
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if target.exists():
            raise _already_there(path) from error
        unfinished.rename(target)


def _move_directory(path: Path, new: Path, target: Path, *, overwrite: bool) -> None:
    """Replaces a directory; between two renamings the old one has another name."""
    if not target.exists():
        new.rename(target)
    elif not overwrite:
        raise _already_there(path)
    else:
        # Not in the directory that is removed after a failure.
        aside = _beside(target, "replaced")
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
