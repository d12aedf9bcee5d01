"""Keeping the memory of a step for the next one, and not that of the compiler beside it."""

import ctypes
import functools
import sys
from typing import Any

import jax

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # mallopt(3)
_NEVER = -1
_COMPILED = "/jax/core/compile/backend_compile_duration"
_SECONDS = 0.5  # what compiles faster has not taken much


def keep_freed_memory() -> None:
    """Has glibc keep what is freed instead of giving it back to the kernel.

    XLA on the CPU asks for all temporary memory of a step at once, and frees it after the step.
    Given back, it costs every step the page faults of hundreds of MiB. The process then stays as
    large as it once was. Other C libraries are left as they are.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


@functools.cache
def give_back_after_compiling() -> None:
    """Has glibc give back what a compilation has freed, before the compiled program runs.

    XLA takes hundreds of MiB to compile a step, in small pieces all over the heap. Between them the
    memory that the step asks for in one piece does not fit: it would come on top.
    """
    malloc_trim = _function("malloc_trim")
    if malloc_trim is None:
        return

    def trim(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED and duration_secs > _SECONDS:
            malloc_trim(0)

    jax.monitoring.register_event_duration_secs_listener(trim)


def _function(name: str) -> Any:
    """Returns a function of glibc, or None where the C library is another or has it not."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
