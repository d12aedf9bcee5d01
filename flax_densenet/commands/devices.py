"""Setting JAX up for the devices and processes that a command uses."""

import jax
import platformdirs

from flax_densenet.commands.allocator import give_back_after_compiling, keep_freed_memory
from flax_densenet.commands.device_options import DeviceOptions, ProcessOptions
from flax_densenet.errors import InputError

_SECONDS_TO_JOIN = 300
_SECONDS_WITHOUT_HEARTBEAT = 30  # after which a silent process counts as dead


def choose_devices(options: DeviceOptions, processes: ProcessOptions = ProcessOptions()) -> None:
    """Sets JAX up; must come before anything is computed, and before Orbax opens a checkpoint.

    Args:
      options: Devices.
      processes: Processes; this one alone by default.

    Raises:
      InputError: A device or process that is asked for cannot be had.
    """
    keep_freed_memory()
    give_back_after_compiling()
    if options.cpu_devices is not None:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", options.cpu_devices)
    if processes.distributed or processes.coordinator is not None:
        _join_processes(processes)
    _check_platform()
    if options.require_accelerator and jax.default_backend() == "cpu":
        raise InputError(
            "--require_accelerator is given, and JAX sees the CPU only; install "
            "flax-densenet[cuda12], check the driver with nvidia-smi, or leave the flag out"
        )
    _use_compilation_cache()


def _check_platform() -> None:
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # an assertion where a plugin is not installed
        reason = (str(error).strip() or "its plugin is not installed").splitlines()[0]
        asked = jax.config.jax_platforms  # type: ignore[attr-defined]
        raise InputError(
            f"JAX cannot use the devices of JAX_PLATFORMS={asked} ({reason}); unset that variable, "
            "or install what the devices need, such as flax-densenet[cuda12]"
        ) from error


def _join_processes(options: ProcessOptions) -> None:
    try:
        jax.distributed.initialize(
            options.coordinator,
            options.num_processes,
            options.process_id,
            initialization_timeout=_SECONDS_TO_JOIN,
            heartbeat_timeout_seconds=_SECONDS_WITHOUT_HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        asked = options.coordinator or "the environment of SLURM, Open MPI or Kubernetes"
        raise InputError(
            f"cannot join the other processes through {asked} ({reason}); start all processes "
            "within 5 minutes, with the same --coordinator and --num_processes and each with its "
            "own --process_id"
        ) from error


def _use_compilation_cache() -> None:
    """Keeps compiled steps for the next run of the same network, unless JAX is told where to."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        directory = platformdirs.user_cache_path("flax-densenet") / "xla"
        jax.config.update("jax_compilation_cache_dir", str(directory))
        # Many small programs around the steps take less than the second from which JAX keeps them.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
