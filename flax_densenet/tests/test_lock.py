"""Tests of flax_densenet/lock.py, beside a process that holds a directory."""

import errno
import fcntl
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flax_densenet import InputError
from flax_densenet.lock import locked

# It has a child, which outlives it and must not hold what it held.
_HOLDER = """
import os, sys, time
from pathlib import Path
from flax_densenet.lock import locked
with locked(Path(sys.argv[1]), flag="--workdir"):
    if os.fork() == 0:
        os.close(1)
        time.sleep(5)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_second_process_is_told_who_holds_it_until_that_one_dies(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    message = (
        rf"{tmp_path} is in use by process {holder.pid} on {re.escape(socket.gethostname())} since "
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}; wait until it ends, or give another directory "
        "with --output"
    )
    for _ in range(2):  # being refused frees nothing
        with pytest.raises(InputError, match=message), locked(tmp_path, flag="--output"):
            pass
    holder.kill()
    holder.wait()
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]
    with locked(tmp_path, flag="--output") as lock:
        assert lock is not None and not lock.is_lost()
    assert list(tmp_path.iterdir()) == []


def test_the_same_process_is_refused_and_keeps_what_it_holds(tmp_path: Path) -> None:
    with locked(tmp_path, flag="--workdir"):
        (tmp_path / "link").symlink_to(tmp_path)
        message = f"is in use by this process, {os.getpid()}; wait"
        with pytest.raises(InputError, match=message), locked(tmp_path / "link", flag="--workdir"):
            pass
        other = [sys.executable, "-c", _HOLDER, str(tmp_path)]
        refused = subprocess.run(other, capture_output=True, text=True, timeout=20)
        assert f"is in use by process {os.getpid()} on" in refused.stderr


@pytest.mark.parametrize("replace", [False, True])
def test_lock_whose_file_is_gone_is_lost(tmp_path: Path, replace: bool) -> None:
    with locked(tmp_path, flag="--workdir") as lock:
        assert lock is not None and not lock.is_lost()
        lock.file.rename(tmp_path / "moved")
        if replace:
            lock.file.write_text("of another process")
        assert lock.is_lost()
    assert lock.file.exists() == replace  # what another process has made stays


def test_disk_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lockf(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with locked(tmp_path, flag="--workdir") as lock:
        assert lock is None
    wanted = f"note: the disk of {tmp_path} has no locks; start no second run there\n"
    assert capsys.readouterr().out == wanted
