"""Chooses devices and joins processes before JAX starts."""

import dataclasses
import os

from flax_densenet.allocator import give_back_after_compiling, keep_freed_memory
from flax_densenet.cache import cache_directory, give_matplotlib_a_place
from flax_densenet.errors import InputError, require
from flax_densenet.machine import count_cpus


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceFlags:
    """Which devices take part.

    Attributes:
      cpu_devices: Simulate this many devices on the CPU.
      require_accelerator: Stop if there is no GPU or TPU, instead of computing on the CPU.
    """

    cpu_devices: int | None = None
    require_accelerator: bool = False

    def __post_init__(self) -> None:
        devices = self.cpu_devices
        require(devices is None or devices >= 1, "cpu_devices", devices, "an integer of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessFlags:
    """Which processes take part.

    Attributes:
      distributed: Join the processes that SLURM, Open MPI, Kubernetes or a TPU pod has started.
      coordinator: HOST:PORT of the first process, to join processes without one of these.
      num_processes: Number of processes, with coordinator.
      process_id: Number of this process from 0, with coordinator.
    """

    distributed: bool = False
    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None

    def __post_init__(self) -> None:
        for name, minimum in (("num_processes", 1), ("process_id", 0)):
            value = getattr(self, name)
            require(
                value is None or value >= minimum, name, value, f"an integer of at least {minimum}"
            )
        explicit = (self.coordinator, self.num_processes, self.process_id)
        if any(value is not None for value in explicit):
            if any(value is None for value in explicit):
                raise InputError(
                    "--coordinator, --num_processes and --process_id belong together, got "
                    f"{self.coordinator}, {self.num_processes} and {self.process_id}; give all "
                    "three, or --distributed where SLURM, Open MPI or Kubernetes start them"
                )
            if self.process_id >= self.num_processes:  # type: ignore[operator]
                raise InputError(
                    f"process_id (={self.process_id}) must be below num_processes "
                    f"(={self.num_processes}); processes are numbered from 0"
                )
            host, _, port = str(self.coordinator).rpartition(":")
            require(bool(host) and port.isdecimal(), "coordinator", self.coordinator, "HOST:PORT")


_SECONDS_TO_JOIN = 300
_SECONDS_WITHOUT_HEARTBEAT = 30  # after which a silent process counts as dead


def choose_devices(devices: DeviceFlags, processes: ProcessFlags = ProcessFlags()) -> None:
    """Sets JAX up, before anything is computed and before Orbax opens a checkpoint.

    Args:
      devices: Which devices take part.
      processes: Which processes take part; by default this one alone.

    Raises:
      InputError: A device or process is not available.
    """
    import jax

    give_matplotlib_a_place()
    # XLA starts as many threads; by itself it looks at the affinity alone.
    os.environ.setdefault("NPROC", str(count_cpus()))
    keep_freed_memory()
    give_back_after_compiling()
    if devices.cpu_devices is not None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", devices.cpu_devices)
    if processes.distributed or processes.coordinator is not None:
        _join_processes(processes)
    _check_platform()
    if devices.require_accelerator and jax.default_backend() == "cpu":
        raise InputError(
            "--require_accelerator is given, and JAX sees the CPU only; install "
            "flax-densenet[cuda12], check the driver with nvidia-smi, or leave the flag out"
        )
    _use_compilation_cache()


def _check_platform() -> None:
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where a plugin is not installed
        reason = (str(error).strip() or "its plugin is not installed").splitlines()[0]
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        raise InputError(
            f"JAX cannot use the devices of JAX_PLATFORMS={asked} ({reason}); unset that variable, "
            "or install what the devices need, such as flax-densenet[cuda12]"
        ) from error


def _join_processes(processes: ProcessFlags) -> None:
    import jax

    try:
        jax.distributed.initialize(
            processes.coordinator,
            processes.num_processes,
            processes.process_id,
            initialization_timeout=_SECONDS_TO_JOIN,
            heartbeat_timeout_seconds=_SECONDS_WITHOUT_HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        asked = processes.coordinator or "the environment of SLURM, Open MPI or Kubernetes"
        raise InputError(
            f"cannot join the other processes through {asked} ({reason}); start all processes "
            "within 5 minutes, with the same --coordinator and --num_processes and each with its "
            "own --process_id"
        ) from error


def _use_compilation_cache() -> None:
    """Keeps compiled steps for the next run of the same network; JAX's own setting goes first."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        directory = cache_directory("xla")
        if directory is None:
            return
        jax.config.update("jax_compilation_cache_dir", str(directory))
        # JAX keeps what compiles for a second or more; many programs around the steps take less.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
