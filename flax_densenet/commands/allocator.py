"""Keeping the memory of a step for the next one, where the C library would give it back."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # mallopt(3)
_NEVER = -1


def keep_freed_memory() -> None:
    """Has glibc keep what is freed instead of giving it back to the kernel.

    XLA on the CPU asks for all temporary memory of a step at once, and frees it after the step.
    Given back, it costs every step the page faults of hundreds of MiB. The process then stays as
    large as it once was. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
