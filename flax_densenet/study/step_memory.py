"""The memory that XLA gives a training step; the step is compiled, not run."""

from typing import NamedTuple

import jax
import numpy as np

from flax_densenet.errors import InputError
from flax_densenet.training.execution import Execution
from flax_densenet.training.parallel import parallel_steps
from flax_densenet.training.step import TrainState


class StepMemory(NamedTuple):
    """Memory of a compiled training step, in bytes.

    Attributes:
      temporary: What it needs while it runs.
      total: The same with state, batch and results.
    """

    temporary: int
    total: int


def step_memory(
    state: TrainState,
    execution: Execution,
    *,
    batch_size: int,
    image_shape: tuple[int, int, int],
) -> StepMemory:
    """Compiles a training step and returns its memory, as XLA states it.

    Args:
      state: State of the training.
      execution: How it is executed.
      batch_size: Images in the batch.
      image_shape: Height, width and channels of an image.
    """
    on_devices = parallel_steps(execution.parallel, remat=execution.remat)
    batch = {
        "image": np.zeros((batch_size, *image_shape), np.uint8),
        "label": np.zeros(batch_size, np.int32),
    }
    compiled = on_devices.lower_train_step(on_devices.place(state), batch).compile()
    sizes = compiled.memory_analysis()
    if sizes is None:
        raise InputError(
            f"XLA does not state the memory of a program on {jax.default_backend()}; set the "
            "environment variable JAX_PLATFORMS=cpu to see that of the CPU"
        )
    results = sizes.output_size_in_bytes - sizes.alias_size_in_bytes
    temporary = sizes.temp_size_in_bytes
    return StepMemory(temporary, temporary + sizes.argument_size_in_bytes + results)
