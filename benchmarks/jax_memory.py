"""Memory of a training step, as XLA states it."""

import jax


def program_memory() -> dict[str, int]:
    """Returns bytes of temporary memory and of arguments, and on a GPU the peak of the device.

    Call it when the training step is the largest program of the process. It is found among the
    programs that are alive, since the package gives its steps to nobody as something to inspect.
    """
    device = jax.devices()[0]
    programs = [
        executable.get_compiled_memory_stats() for executable in device.client.live_executables()
    ]
    largest = max(programs, key=lambda stats: stats.temp_size_in_bytes)
    memory = {
        "temporary_bytes": largest.temp_size_in_bytes,
        "argument_bytes": largest.argument_size_in_bytes,
    }
    if stats := device.memory_stats():
        memory["device_peak_bytes"] = stats["peak_bytes_in_use"]
    return memory
