"""Compiled steps of one network, and the time to compile them.

Axes: B batch, H height, W width, C channels.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from flax_densenet.data.batches import EvalBatch, TrainBatch
from flax_densenet.implementations.choose import Implementation
from flax_densenet.machine import program_bytes
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.training.augment import Preprocess
from flax_densenet.training.config import Execution, OptimizationConfig
from flax_densenet.training.optimizer import learning_rate_schedule
from flax_densenet.training.state import network_state
from flax_densenet.training.step import TrainState, eval_step, train_step

Pass = Literal["evaluation", "training"]

LEARNING_RATE = 0.1
WEIGHT_DECAY = 1e-4
SEED = 0
_PIXEL_MEAN, _PIXEL_STD = 128.0, 74.0  # of uniform random bytes
_NUM_BATCHES = 4
_TOTAL_STEPS = 1_000_000  # so many that the learning rate does not drop


def channel_statistics(config: DenseNetConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel of the images, in 0 to 255."""
    return (_PIXEL_MEAN,) * config.in_channels, (_PIXEL_STD,) * config.in_channels


def train_batches(config: DenseNetConfig, batch_size: int, image_size: int) -> list[TrainBatch]:
    """Returns some random batches, the same in every process, which training takes in turn.

    Args:
      config: The network.
      batch_size: Images in each (B).
      image_size: Their height and width in pixels.
    """
    random = np.random.default_rng(SEED)
    image_shape = (batch_size, image_size, image_size, config.in_channels)
    return [
        {
            "image": random.integers(0, 256, image_shape, np.uint8),
            "label": random.integers(0, config.num_classes, batch_size, np.int32),
        }
        for _ in range(_NUM_BATCHES)
    ]


def eval_batch(batch: TrainBatch) -> EvalBatch:
    """Returns the same images as a batch to evaluate on, in which all count."""
    return {**batch, "valid": np.ones(len(batch["label"]), bool)}


def measured_state(
    config: DenseNetConfig, *, remat: bool = False, implementation: Implementation = "auto"
) -> TrainState:
    """Returns the state before the first step.

    Args:
      config: The network.
      remat: Compute activations a second time in the backward pass.
      implementation: How blocks are computed.
    """
    return network_state(
        config,
        Preprocess(*channel_statistics(config), "none"),
        optimization=OptimizationConfig(weight_decay=WEIGHT_DECAY, seed=SEED),
        execution=Execution(remat=remat, implementation=implementation),
        schedule=learning_rate_schedule(LEARNING_RATE, _TOTAL_STEPS),
    )


class Program(NamedTuple):
    """A step that is ready to be timed.

    Attributes:
      run: Does one step, from images in NumPy until all of its results are there.
      cold_seconds: Tracing and compiling, with nothing kept from before.
      cached_seconds: The same in a process that finds what an earlier one has compiled.
      memory_bytes: What XLA plans for it: arguments, results and temporary memory; None where XLA
        does not say.
    """

    run: Callable[[], None]
    cold_seconds: float
    cached_seconds: float
    memory_bytes: int | None


def build_program(
    config: DenseNetConfig,
    implementation: Implementation,
    which: Pass,
    *,
    batch_size: int,
    image_size: int,
) -> Program:
    """Compiles a step twice, the second time from what the first has left on the disk.

    Args:
      config: The network.
      implementation: How blocks are computed.
      which: The step.
      batch_size: Images in a batch (B).
      image_size: Their height and width in pixels.
    """
    state = measured_state(config, implementation=implementation)
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

    needed = program_bytes(program)
    return Program(run, cold_seconds, cached_seconds, needed and needed.total)


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
