"""The environment of every worker."""

import os
from pathlib import Path
from typing import Literal

from benchmarks.contestants import DeviceKind

Allocator = Literal["tuned", "default"]

# By default glibc gives a step's memory back to the kernel and asks for it again at the next step,
# which costs every step the page faults.
_ALLOCATOR = {
    "tuned": {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "100000000000",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    },
    "default": {},
}
_DEVICE: dict[DeviceKind, dict[str, str]] = {
    "cpu": {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
    # Several workers share the GPU, so that none may take most of its memory at the start.
    "gpu": {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
}


def worker_environment(
    device: DeviceKind, allocator: Allocator, threads: int, cache: Path
) -> dict[str, str]:
    """Returns the environment variables of a worker.

    Args:
      device: Where it computes; of several GPUs on the first.
      allocator: "tuned" keeps memory between the steps, "default" leaves glibc as it is.
      threads: CPU threads.
      cache: Directory of its own for what it compiles.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not any(name in settings for settings in _ALLOCATOR.values())
    }
    first_gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return {
        **environment,
        "CUDA_VISIBLE_DEVICES": first_gpu,
        **_ALLOCATOR[allocator],
        **_DEVICE[device],
        "OMP_NUM_THREADS": str(threads),
        "JAX_ENABLE_COMPILATION_CACHE": "1",
        "JAX_COMPILATION_CACHE_DIR": str(cache / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "torch"),
    }
