"""A profile of a few steps, for Perfetto, TensorBoard or xprof."""

from pathlib import Path

import jax

from flax_densenet.training.step import TrainState

_STEPS_BEFORE = 5  # the first ones compile and warm up


class StepProfile:
    """Profiles the steps after the first few of this process; use it as a context manager."""

    def __init__(self, directory: Path, num_steps: int) -> None:
        """Prepares the profile.

        Args:
          directory: Where the trace goes.
          num_steps: Steps to profile.
        """
        self._directory = directory
        self._num_steps = num_steps
        self._steps_seen = 0
        self._is_running = False

    def __enter__(self) -> "StepProfile":
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def before_step(self, state: TrainState) -> None:
        """Starts and stops the profile at the right steps.

        Args:
          state: State before the step, which is waited for, so that the profile has whole steps.
        """
        if self._steps_seen == _STEPS_BEFORE:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._directory)
            self._is_running = True
        elif self._steps_seen == _STEPS_BEFORE + self._num_steps:
            jax.block_until_ready(state)
            self._stop()
        self._steps_seen += 1

    def _stop(self) -> None:
        if self._is_running:
            jax.profiler.stop_trace()
            self._is_running = False
