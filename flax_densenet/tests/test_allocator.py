"""Memory that is freed stays with the process, and nothing else changes."""

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from flax_densenet.commands.allocator import keep_freed_memory

_MIB = 2**20
_PROGRAM = """
import sys
import numpy
from flax_densenet.commands.allocator import keep_freed_memory

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])

if sys.argv[1] == "keep":
    keep_freed_memory()
before = resident()
array = numpy.ones(256 * 2**20, numpy.uint8)
del array
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
@pytest.mark.parametrize(("what", "kept"), [("keep", True), ("leave", False)])
def test_freed_memory_is_kept(what: str, kept: bool) -> None:
    command = [sys.executable, "-c", _PROGRAM, what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 250 * _MIB) is kept


def test_a_library_without_mallopt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    keep_freed_memory()
