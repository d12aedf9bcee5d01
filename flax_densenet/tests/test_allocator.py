"""Memory that is freed stays with the process, but for the compiler's."""

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest

from flax_densenet import allocator
from flax_densenet.allocator import give_back_after_compiling, keep_freed_memory

_MIB = 2**20
# The start of both programs.
_RESIDENT = """
import sys
from flax_densenet.allocator import give_back_after_compiling, keep_freed_memory

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])
"""
_PROGRAM = """
import numpy
if sys.argv[1] == "keep":
    keep_freed_memory()
before = resident()
array = numpy.ones(256 * 2**20, numpy.uint8)
del array
print(resident() - before)
"""


# What XLA leaves behind: small pieces, of which one at the end of the heap stays in use.
_COMPILING = """
import jax
keep_freed_memory()
give_back_after_compiling()
before = resident()
pieces = [bytes(10_000) for _ in range(25_000)]
del pieces[:-1]
jax.monitoring.record_event_duration_secs(
    "/jax/core/compile/backend_compile_duration", float(sys.argv[1]), fun_name="train_step"
)
print(resident() - before)
"""
_needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these")


@_needs_glibc
@pytest.mark.parametrize(("what", "kept"), [("keep", True), ("leave", False)])
def test_freed_memory_is_kept(what: str, kept: bool) -> None:
    command = [sys.executable, "-c", _RESIDENT + _PROGRAM, what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 250 * _MIB) is kept


@_needs_glibc
@pytest.mark.parametrize(("seconds", "kept"), [("0.1", True), ("2", False)])
def test_what_a_long_compilation_has_freed_is_given_back(seconds: str, kept: bool) -> None:
    command = [sys.executable, "-c", _RESIDENT + _COMPILING, seconds]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 200 * _MIB) is kept


def test_jax_tells_of_a_compilation_before_the_program_runs() -> None:
    seen: list[str] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == allocator._COMPILED:
            seen.append("compiled")

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run = jax.jit(lambda x: jax.debug.callback(lambda: seen.append("ran")) or x + 1)
        jax.block_until_ready(run(1.0))
        jax.effects_barrier()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert seen[-1] == "ran" and seen[-2] == "compiled"


def test_a_library_without_mallopt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    keep_freed_memory()
    give_back_after_compiling.__wrapped__()
