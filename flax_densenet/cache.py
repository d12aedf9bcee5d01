"""Where this package keeps what it can make or download again, also on a machine without a home.

That is the user's cache directory. Where nothing can be written there, a directory of this user
among the temporary files takes its place, and a line says so.
"""

import contextlib
import functools
import os
import stat
import sys
import tempfile
from pathlib import Path

import platformdirs

_NAME = "flax-densenet"
_PROBE = bytes(2**20)  # less room than that is none
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_directory(part: str, *, private: bool = False) -> Path | None:
    """Returns a directory that can be written to, and prints a line if it is not the usual one.

    Args:
      part: What is kept there, such as "weights".
      private: Whether nobody else may write to it, as where programs are kept.

    Returns:
      The directory, which exists; None if there is none.
    """
    usual = _usual_cache()
    reason = "this user has no home directory"
    if usual is not None:
        fault = _fault(usual / part, private)
        if fault is None:
            return usual / part
        reason = f"nothing can be written to {usual} ({fault})"
    other = _temporary_cache(make=True)
    if other is None or _fault(other / part, private) is not None:
        _say(f"{reason}, nor to the directory of temporary files, so that nothing is kept there")
        return None
    _say(f"{reason}, so that {other} is the cache; XDG_CACHE_HOME names a better one")
    return other / part


def download_directory(part: str) -> Path:
    """Returns `cache_directory`, or where there is none a place where writing will say why."""
    return cache_directory(part) or Path.cwd() / ".cache" / _NAME / part


def cache_places(part: str) -> list[Path]:
    """Returns where something may be kept already, the usual place first."""
    usual, other = _usual_cache(), _temporary_cache(make=False)
    places = [] if usual is None else [usual / part]
    return places if other is None or not (other / part).exists() else [*places, other / part]


def give_home() -> None:
    """Sets HOME where this user has none, since libraries fail that ask for it."""
    try:
        Path.home()
    except RuntimeError:  # no HOME, and no entry of this user among the system's
        if (home := _temporary_home(make=True)) is not None:
            os.environ["HOME"] = str(home)
            _say(f"this user has no home directory, so that {home} is it; HOME names a better one")


def give_matplotlib_a_place() -> None:
    """Sets MPLCONFIGDIR where the usual place cannot be written to, which takes it two lines."""
    if "MPLCONFIGDIR" in os.environ:
        return
    with contextlib.suppress(RuntimeError):
        usual = platformdirs.user_config_path("matplotlib")
        there = next(path for path in (usual, *usual.parents) if path.exists())
        if there.is_dir() and os.access(there, os.W_OK):
            return
    if (directory := cache_directory("matplotlib")) is not None:
        os.environ["MPLCONFIGDIR"] = str(directory)


def is_private(path: Path) -> bool:
    """Returns whether nobody but this user and root could have written a file or a directory."""
    try:
        status = path.lstat()
    except OSError:
        return False
    is_plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return is_plain and status.st_uid in (0, _user()) and not status.st_mode & _WRITABLE_BY_OTHERS


def _usual_cache() -> Path | None:
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given and not os.path.isabs(given):
        _say(f"XDG_CACHE_HOME (={given}) is no absolute path, so that it is not used")
    try:
        path = platformdirs.user_cache_path(_NAME)
    except RuntimeError:
        return None
    return path if path.is_absolute() else None


def _temporary_cache(*, make: bool) -> Path | None:
    home = _temporary_home(make=make)
    return None if home is None else home / ".cache" / _NAME


def _temporary_home(*, make: bool) -> Path | None:
    """Returns a directory that no other user can have prepared."""
    try:
        path = Path(tempfile.gettempdir()) / f"{_NAME}-{_user()}"
        if make:
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return None
    return path if is_private(path) else None


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0  # not on Windows


@functools.cache
def _fault(path: Path, private: bool) -> str | None:
    """Returns why a directory cannot be used; None if it can."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if private and not is_private(path.resolve()):  # a link is the user's own
            path.chmod(0o700)
            if not is_private(path.resolve()):
                return f"others can write to {path}"
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(_PROBE)
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


@functools.cache
def _say(line: str) -> None:
    print(f"note: {line}", file=sys.stderr, flush=True)
