"""The compiled programs of one network and batch size, and what compiling them took.

Axes: B batch, H height, W width, C channels.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
from jax.experimental.compilation_cache import compilation_cache

from flax_densenet.bench.initial_state import initial_state
from flax_densenet.bench.workload import eval_batch, train_batches
from flax_densenet.config import DenseNetConfig
from flax_densenet.formulation import Formulation
from flax_densenet.training.step import eval_step, train_step

Pass = Literal["evaluation", "training"]


class Program(NamedTuple):
    """A step that is ready to be timed.

    Attributes:
      run: Does one step, from images in NumPy until all of its results are there.
      cold_seconds: Tracing and compiling, with nothing kept from before.
      cached_seconds: The same in a process that finds what an earlier one has compiled.
      memory_bytes: What XLA plans for it: arguments, results and temporary memory; None where it
        does not tell.
    """

    run: Callable[[], None]
    cold_seconds: float
    cached_seconds: float
    memory_bytes: int | None


def build_program(
    config: DenseNetConfig,
    formulation: Formulation,
    which: Pass,
    *,
    batch_size: int,
    image_size: int,
) -> Program:
    """Compiles a step twice, the second time from what the first has left on the disk.

    Args:
      config: The network.
      formulation: How blocks are computed.
      which: The step.
      batch_size: Images in a batch (B).
      image_size: Their height and width in pixels.
    """
    state = initial_state(config, formulation=formulation)
    batch = train_batches(config, batch_size, image_size)[0]
    is_training = which == "training"
    step: Callable[..., Any] = train_step if is_training else eval_step
    arguments: tuple[Any, Any] = (state, batch if is_training else eval_batch(batch))

    def compiled() -> tuple[jax.stages.Compiled, float]:
        jax.clear_caches()  # of this process; what is on the disk stays
        start = time.perf_counter()
        jitted = jax.jit(step, donate_argnums=(0,) if is_training else ())
        program = jitted.lower(*arguments).compile()
        return program, time.perf_counter() - start

    with _empty_compilation_cache():
        _, cold_seconds = compiled()
        program, cached_seconds = compiled()

    def run() -> None:
        nonlocal arguments
        result = jax.block_until_ready(program(*arguments))
        if is_training:
            arguments = (result[0], arguments[1])

    return Program(run, cold_seconds, cached_seconds, _memory(program))


def _memory(program: jax.stages.Compiled) -> int | None:
    needed = program.memory_analysis()
    if needed is None:
        return None
    return int(
        needed.argument_size_in_bytes
        + needed.output_size_in_bytes
        - needed.alias_size_in_bytes  # results that take the place of arguments
        + needed.temp_size_in_bytes
    )


@contextlib.contextmanager
def _empty_compilation_cache() -> Iterator[None]:
    """Has JAX keep what it compiles in an empty directory, which is removed afterwards."""
    names = (
        "jax_enable_compilation_cache",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: getattr(jax.config, name) for name in names}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        try:
            for name, value in zip(names, (True, directory, 0.0), strict=True):
                jax.config.update(name, value)
            compilation_cache.reset_cache()  # or it stays where it was
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()
