"""The flags for devices and processes."""

import dataclasses

from flax_densenet.errors import InputError, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceOptions:
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
class ProcessOptions:
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
