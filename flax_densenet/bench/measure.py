"""Timing of one network: evaluation and training, in each implementation.

Axes: B batch, H height, W width, C channels.
"""

import dataclasses
import time
from collections.abc import Iterator
from typing import get_args

import jax

from flax_densenet.bench.programs import Pass, Program, build_program
from flax_densenet.implementations import choose_implementation
from flax_densenet.implementations.choose import ChosenImplementation
from flax_densenet.network.config import DenseNetConfig

MIB = 2**20
_WARM_UP = 2  # steps, in which the heap grows
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


@dataclasses.dataclass
class Measured:
    """Everything that was measured of one step.

    Attributes:
      batch_size: Images in a batch (B).
      step: "evaluation" or "training".
      implementation: How blocks were computed.
      is_automatic: Whether "auto" chooses this implementation here.
      error: Why it could not be measured, if so.
      cold_seconds: Tracing and compiling, with nothing kept from before.
      cached_seconds: The same with the programs that an earlier process has kept.
      memory_bytes: What XLA plans for it: arguments, results and temporary memory.
      seconds: Every timed step.
    """

    batch_size: int
    step: Pass
    implementation: ChosenImplementation
    is_automatic: bool
    error: str | None = None
    cold_seconds: float | None = None
    cached_seconds: float | None = None
    memory_bytes: int | None = None
    seconds: list[float] = dataclasses.field(default_factory=list)


def measure(
    config: DenseNetConfig, *, batch_size: int, image_size: int, steps: int
) -> Iterator[list[Measured]]:
    """Yields the figures of evaluation, and then of training, for each implementation.

    The implementations take turns, so that other work on the machine slows all of them.

    Args:
      config: The network.
      batch_size: Images in a batch.
      image_size: Their height and width in pixels.
      steps: Timed steps of each.
    """
    for which in get_args(Pass):
        automatic = choose_implementation(
            "auto", config, train=which == "training", axis_name=None, captured=False
        )
        implementations: dict[ChosenImplementation, None] = dict.fromkeys(("plain", automatic))
        results, programs = [], []
        for implementation in implementations:
            one = Measured(batch_size, which, implementation, implementation == automatic)
            results.append(one)
            program = _prepared(one, config, image_size)
            if program is not None:
                programs.append((one, program))
        for _ in range(steps):
            for one, program in programs:
                start = time.perf_counter()
                program.run()
                one.seconds.append(time.perf_counter() - start)
        yield results


def _prepared(one: Measured, config: DenseNetConfig, image_size: int) -> Program | None:
    try:
        program = build_program(
            config, one.implementation, one.step, batch_size=one.batch_size, image_size=image_size
        )
        one.cold_seconds, one.cached_seconds = program.cold_seconds, program.cached_seconds
        one.memory_bytes = program.memory_bytes
        for _ in range(_WARM_UP):
            program.run()
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and _OUT_OF_MEMORY not in str(error):
            raise
        one.error = "out of memory"
        return None
    return program
