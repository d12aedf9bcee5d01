"""The C++ compiler of this machine, and in a few words why it fails."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from flax_densenet.machine import count_cpus

_COMPILERS = ("g++", "clang++", "c++")
_SECONDS = 600  # for everything
_SECONDS_BETWEEN_LOOKS = 0.02
_SHOWN_LINES = 3
_FULL = ("No space left on device", "Disk quota exceeded")


class CompilerFailed(Exception):
    """The kernels could not be made; the message says why and what to do.

    Attributes:
      again: Whether the next process may have more success, as with a full disk.
    """

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


class Compiler(NamedTuple):
    """A compiler.

    Attributes:
      words: How it is called, such as ccache and g++.
      version: What it says of itself.
    """

    words: tuple[str, ...]
    version: bytes

    @property
    def name(self) -> str:
        """How the user would call it."""
        return shlex.join(self.words)


def find_compiler() -> Compiler | None:
    """Returns what CXX names, or else the first compiler that exists.

    Raises:
      CompilerFailed: It does not even say its version.
    """
    words = _given() or next(((name,) for name in _COMPILERS if shutil.which(name)), None)
    if words is None:
        return None
    try:
        version = subprocess.run(
            [*words, "--version"], capture_output=True, check=True, timeout=_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        raise _failed(shlex.join(words), said) from error
    return Compiler(words, version.stdout)


def _given() -> tuple[str, ...] | None:
    given = os.environ.get("CXX")
    if not given:
        return None
    words: tuple[str, ...] = ()
    with contextlib.suppress(ValueError):  # a quote that is not closed
        words = tuple(shlex.split(given))
    if words and shutil.which(words[0]):
        return words
    print(f"note: CXX (={given}) names no program; the usual compilers are tried", file=sys.stderr)
    return None


def compile_all(
    compiler: Compiler,
    commands: Sequence[Sequence[str]],
    scratch: Path,
    done: Callable[[], object] = lambda: None,
) -> None:
    """Runs the compiler several times, on all CPUs of this process.

    Args:
      compiler: The compiler.
      commands: Its words in each run.
      scratch: Directory for its temporary files, too.
      done: Called after each run.

    Raises:
      CompilerFailed: One of the runs failed; the others are ended.
    """
    deadline = time.monotonic() + _SECONDS
    waiting = list(enumerate(commands))
    running: list[tuple[subprocess.Popen[bytes], Path]] = []
    try:
        while waiting or running:
            while waiting and len(running) < count_cpus():
                number, command = waiting.pop(0)
                running.append(_start([*compiler.words, *command], scratch, number))
            for process, said in [pair for pair in running if pair[0].poll() is not None]:
                running.remove((process, said))
                if process.returncode != 0:
                    raise _failed(compiler.name, said.read_bytes(), process.returncode)
                done()
            if time.monotonic() > deadline:
                raise CompilerFailed(
                    f"{compiler.name} was not done after {_SECONDS} seconds; try again on a "
                    "machine that does less, or choose --implementation blocked",
                    again=True,
                )
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    except OSError as error:
        raise _failed(compiler.name, str(error).encode()) from error
    finally:
        for process, _ in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the compiler proper is a child
            process.wait()


def _start(command: list[str], scratch: Path, number: int) -> tuple[subprocess.Popen[bytes], Path]:
    said = scratch / f"{number}.txt"
    with said.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "TMPDIR": str(scratch)},
            start_new_session=True,  # Ctrl-C is for us
        )
    return process, said


def _failed(name: str, said: bytes, status: int = 1) -> CompilerFailed:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    causes = [line for line in lines if "error" in line.lower() or line.endswith(_FULL)] or lines
    cause = "; ".join(causes[:_SHOWN_LINES]) or f"exit status {status}"
    if any(full in cause for full in _FULL):
        return CompilerFailed(
            f"the disk is full ({cause}); make room, or name a directory with room in "
            "XDG_CACHE_HOME",
            again=True,
        )
    if "Killed" in cause or status < 0:
        return CompilerFailed(
            f"{name} was killed ({cause}), perhaps since the memory is full; close other "
            "programs, or choose --implementation blocked",
            again=True,
        )
    return CompilerFailed(
        f"{name} says: {cause}; install g++ or name another compiler in CXX, or choose "
        "--implementation blocked"
    )
