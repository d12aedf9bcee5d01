"""Everything that is measured of one contestant."""

import dataclasses


@dataclasses.dataclass
class Measurement:
    """The measurements of one contestant.

    Attributes:
      contestant: Its name.
      dtype: Type of its computation.
      error: Why it could not go on, if so; what it had shown before stays.
      num_parameters: Trainable parameters.
      device: What it computed on.
      build_seconds: Until it was ready for the first step, without the imports.
      first_step_seconds: First training step, with nothing compiled.
      cached_first_step_seconds: The same in a second process, with the first one's compiled code.
      first_losses: Losses of the first steps.
      train_seconds: Every timed training step.
      eval_seconds: Every timed evaluation step.
      train_ahead_seconds: Mean training step of each turn in which none but the last was waited
        for; on GPUs only, for which the host prepares work ahead.
      eval_ahead_seconds: Mean evaluation step, measured in the same way.
      start_bytes: Peak resident memory just before the first step.
      peak_bytes: Peak resident memory after all training steps.
      cached_peak_bytes: The same after the warm-up of the second process, which compiles nothing.
      second_error: Why there is no second process, if so.
      framework_memory: Memory that the framework states (see `benchmarks.contestants.Program`).
    """

    contestant: str
    dtype: str
    error: str | None = None
    num_parameters: int | None = None
    device: str | None = None
    build_seconds: float | None = None
    first_step_seconds: float | None = None
    cached_first_step_seconds: float | None = None
    first_losses: list[float] = dataclasses.field(default_factory=list)
    train_seconds: list[float] = dataclasses.field(default_factory=list)
    eval_seconds: list[float] = dataclasses.field(default_factory=list)
    train_ahead_seconds: list[float] = dataclasses.field(default_factory=list)
    eval_ahead_seconds: list[float] = dataclasses.field(default_factory=list)
    start_bytes: int | None = None
    peak_bytes: int | None = None
    cached_peak_bytes: int | None = None
    second_error: str | None = None
    framework_memory: dict[str, int] = dataclasses.field(default_factory=dict)
