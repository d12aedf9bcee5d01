"""Holds a directory for one process, until it ends in whatever way.

The system frees the lock when the process ends. It is one of `fcntl`, which network disks have, too
(NFS from version 4 on, or with its lock service; Lustre with -o flock), and which the children of a
process do not inherit. Where a disk has no locks, a note says so.
"""

import contextlib
import datetime
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from flax_densenet.errors import InputError

LOCK_NAME = ".lock"
_HELD_BY_ANOTHER = {errno.EACCES, errno.EAGAIN}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_SECONDS_TO_WRITE = 1.0  # what the holder writes after it has the lock

_held: set[Path] = set()  # by this process, to which the system would give a lock twice


class Lock:
    """A directory that this process holds.

    Attributes:
      file: The locked file in it, which names the process.
    """

    def __init__(self, file: Path, descriptor: int) -> None:
        self.file = file
        self._descriptor = descriptor

    def is_lost(self) -> bool:
        """Returns whether the file was removed or replaced, or the disk took the lock away."""
        try:
            os.pread(self._descriptor, 1, 0)  # NFS fails for a lock that its server has dropped
            return not _is_same_file(self.file, self._descriptor)
        except OSError:
            return True


@contextlib.contextmanager
def locked(directory: Path, *, flag: str) -> Iterator[Lock | None]:
    """Holds a directory for this process, as long as the block runs.

    Args:
      directory: The directory, which must be there.
      flag: The flag that gives another directory, for the message.

    Yields:
      The lock; None if the disk has no locks.

    Raises:
      InputError: Another process holds it; the message says which one, where and since when.
      OSError: The file cannot be made.
    """
    file = Path(os.path.realpath(directory)) / LOCK_NAME
    # Not read here: when a process closes any file that it has locked, the lock is gone.
    holder = f"this process, {os.getpid()}" if file in _held else None
    descriptor = -1 if holder else _acquire(file)
    if descriptor is None or holder:
        raise InputError(
            f"{directory} is in use by {holder or _holder(file)}; wait until it ends, or give "
            f"another directory with {flag}"
        )
    _held.add(file)
    try:
        if descriptor < 0:
            print(f"note: the disk of {directory} has no locks; start no second run there")
            yield None
        else:
            yield Lock(file, descriptor)
    finally:
        _held.remove(file)
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                if _is_same_file(file, descriptor):
                    file.unlink()
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _acquire(file: Path) -> int | None:
    """Returns the open file that is locked; None if another holds it, -1 if there are no locks."""
    import fcntl  # which Windows lacks

    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(file, descriptor):  # else its holder removed it in between
                holder = {
                    "process": os.getpid(),
                    "host": socket.gethostname(),
                    "since": f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}",
                }
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(holder).encode(), 0)
                return descriptor
            os.close(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _HELD_BY_ANOTHER:
                return None
            if error.errno in _NO_LOCKS:
                return -1
            raise


def _is_same_file(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(file: Path) -> str:
    until = time.monotonic() + _SECONDS_TO_WRITE
    while True:
        try:
            holder = json.loads(file.read_text())
            return f"process {holder['process']} on {holder['host']} since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            if time.monotonic() > until:
                return "another process"
            time.sleep(0.02)
