"""Keeps the memory of a step for the next one, and gives back what is not needed again."""

import ctypes
import functools
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # mallopt(3)
_NEVER = -1
_COMPILED = "/jax/core/compile/backend_compile_duration"
_SECONDS = 0.5  # a shorter compilation has not taken much


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory instead of giving it back to the kernel.

    XLA on the CPU allocates all temporary memory of a step at once and frees it after the step. If
    it went back to the kernel, every step would pay for the page faults of hundreds of MiB. The
    price is that the process stays as large as it once was. Other C libraries are not changed.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


@functools.cache
def give_back_after_compiling() -> None:
    """Makes glibc give back the memory of a compilation before the compiled program runs.

    XLA takes hundreds of MiB to compile a step, in small pieces all over the heap. The step then
    allocates its memory in one piece, which does not fit between them and would come on top.
    """
    import jax

    def trim(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED and duration_secs > _SECONDS:
            give_back()

    jax.monitoring.register_event_duration_secs_listener(trim)


def give_back() -> None:
    """Makes glibc give all freed memory back to the kernel, that of other threads, too.

    PyTorch frees what its backward pass held in a heap of another thread, from which nothing else
    is allocated.
    """
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _function(name: str) -> Any:
    """Returns a function of glibc, or None if the C library is another one or lacks it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
