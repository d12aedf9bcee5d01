"""The machine and the software that a result was measured on.

JAX is imported by the functions that ask it, so that `--help` does not wait for it.
"""

import importlib.metadata
import math
import os
import platform
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import jax

_CPU_INFO = Path("/proc/cpuinfo")
_CONTROL_GROUPS = Path("/proc/self/cgroup")
_CONTROL_GROUP_FILES = Path("/sys/fs/cgroup")
_MAX_LOAD = 0.5  # average number of running processes in the last minute


def describe_machine() -> dict[str, Any]:
    """Returns processor, cores, load and the versions of all installed packages."""
    return {
        "cpu": cpu_model(),
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


def busy(machine: dict[str, Any]) -> str | None:
    """Returns a sentence if something else ran on the machine, which makes figures worthless.

    Args:
      machine: Its description, from before the measurement.
    """
    load = machine["load_average"][0]
    if load <= _MAX_LOAD:
        return None
    return f"something else runs on this machine (load {load:.1f}); its figures mean nothing"


def cpu_info(*names: str) -> list[str]:
    """Returns the lines of /proc/cpuinfo that start with one of the names, in their order.

    Args:
      names: Such as "model name" or "flags".

    Returns:
      One line for each processor and name; none where the file does not exist, as on macOS.
    """
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return []
    return [line for line in lines if line.startswith(names)]


def cpu_model() -> str:
    """Returns the name of the processor, such as "AMD EPYC 9V74 80-Core Processor"."""
    for line in cpu_info("model name"):
        return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def count_cpus() -> int:
    """Returns how many CPUs this process may use: its affinity, and at most its quota."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, math.ceil(min(count, _cpu_quota())))


def _cpu_quota() -> float:
    """Returns the least quota of the control groups that this process is in, in CPUs."""
    quotas = [math.inf]
    try:
        lines = _CONTROL_GROUPS.read_text().splitlines()
    except OSError:
        return math.inf
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = PurePosixPath(path)
        # A container sees its own group as the root, whatever its path says.
        for place in {PurePosixPath("/"), group, *group.parents}:
            root = _CONTROL_GROUP_FILES / ("cpu" if controllers else "") / str(place).lstrip("/")
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
            try:
                quota, period, *_ = " ".join((root / name).read_text() for name in names).split()
                if float(quota) > 0:  # -1 is none
                    quotas.append(float(quota) / float(period))
            except (OSError, ValueError):  # "max" is none
                continue
    return min(quotas)


class ProgramBytes(NamedTuple):
    """What a compiled program takes, in bytes.

    Attributes:
      temporary: Between its arguments and its results.
      total: With both; results that take the place of arguments count once.
    """

    temporary: int
    total: int


def program_bytes(program: "jax.stages.Compiled") -> ProgramBytes | None:
    """Returns what a compiled program takes; None where XLA does not state it."""
    needed = program.memory_analysis()
    if needed is None:
        return None
    results = needed.output_size_in_bytes - needed.alias_size_in_bytes
    temporary = int(needed.temp_size_in_bytes)
    return ProgramBytes(temporary, temporary + int(needed.argument_size_in_bytes + results))


def software(*packages: str) -> str:
    """Returns names and versions of packages, such as "jax 0.10.2, flax 0.12.8"."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def python_and(*packages: str) -> str:
    """Returns the same with Python's own version first."""
    return f"python {platform.python_version()}, {software(*packages)}"


def hardware() -> str:
    """Returns what this process computes on, in words."""
    import jax

    devices = jax.devices()
    kind = devices[0].device_kind
    where = "the CPU" if jax.default_backend() == "cpu" else f"{len(devices)} x {kind}"
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), JAX on {where}"
