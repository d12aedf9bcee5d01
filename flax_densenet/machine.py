"""The machine and software that a result was measured on."""

import contextlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import jax

_MAX_LOAD = 0.5  # average number of running processes in the last minute


def describe_machine() -> dict[str, Any]:
    """Returns processor, cores, load and the versions of all installed packages."""
    return {
        "cpu": _cpu_model(),
        "cpus_of_the_machine": os.cpu_count(),
        "cpus_for_this_process": count_cpus(),
        "load_average": os.getloadavg(),
        "system": platform.platform(),
        "python": sys.version,
        "packages": {
            distribution.name: distribution.version
            for distribution in importlib.metadata.distributions()
        },
    }


def count_cpus() -> int:
    """Returns how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def busy(machine: dict[str, Any]) -> str | None:
    """Returns a sentence if something else ran on the machine, which makes figures worthless.

    Args:
      machine: Its description, from before the measurement.
    """
    load = machine["load_average"][0]
    if load <= _MAX_LOAD:
        return None
    return f"something else runs on this machine (load {load:.1f}); its figures mean nothing"


def _cpu_model() -> str:
    with contextlib.suppress(OSError):  # Linux only
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def software(*packages: str) -> str:
    """Returns names and versions, such as "jax 0.10.2, flax 0.12.8"."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def hardware() -> str:
    """Returns what this process computes on, in words."""
    devices = jax.devices()
    kind = devices[0].device_kind
    where = "the CPU" if jax.default_backend() == "cpu" else f"{len(devices)} x {kind}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), JAX on {where}"
