"""How a network is trained: the numbers of the optimizer and its schedule."""

import dataclasses
from typing import Literal, get_args

from flax_densenet.errors import require

Schedule = Literal["steps", "cosine"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How it is trained, with SGD and Nesterov momentum 0.9.

    Attributes:
      epochs: Passes over the training images.
      batch_size: Images per step, of all devices together.
      learning_rate: Learning rate at the start, or after the warm-up.
      schedule: "steps" divides the learning rate by 10 at each of `drops`; "cosine" lowers it to 0
        along half a cosine.
      drops: Shares of the training after which "steps" divides, in (0, 1) and rising.
      warmup_epochs: Epochs in which the learning rate rises linearly to its value.
      weight_decay: Factor of each parameter that is added to its gradient.
      max_gradient_norm: Scale the gradient down to this norm (over all parameters) if it is longer.
      label_smoothing: Share of the target probability that is spread over all classes, in [0, 1).
      ema_decay: Keep an average of the parameters, in which the old ones weigh this much at each
        step, in (0, 1); evaluation and checkpoints use it.
      synchronized_batch_norm: Whether batch normalization takes its statistics over all devices.
        Without it (pmap only) each device has its own; the running ones are averaged.
      seed: Decides initial weights, order of the images, augmentation and dropout.
    """

    epochs: int = 300
    batch_size: int = 64
    learning_rate: float = 0.1
    schedule: Schedule = "steps"
    drops: tuple[float, ...] = (0.5, 0.75)
    warmup_epochs: float = 0
    weight_decay: float = 1e-4
    max_gradient_norm: float | None = None
    label_smoothing: float = 0.0
    ema_decay: float | None = None
    synchronized_batch_norm: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, minimum in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            is_integer = isinstance(value, int) and not isinstance(value, bool)
            require(
                is_integer and value >= minimum, name, value, f"an integer of at least {minimum}"
            )
        infinity = float("inf")
        rate, clip, decay = self.learning_rate, self.max_gradient_norm, self.ema_decay
        require(0 < rate < infinity, "learning_rate", rate, "a number above 0")
        require(
            0 <= self.weight_decay < infinity,
            "weight_decay",
            self.weight_decay,
            "a number of at least 0",
        )
        require(
            self.schedule in get_args(Schedule),
            "schedule",
            self.schedule,
            f"one of {get_args(Schedule)}",
        )
        object.__setattr__(self, "drops", tuple(self.drops))  # JSON has lists only
        rising = all(a < b for a, b in zip((0.0, *self.drops), (*self.drops, 1.0), strict=True))
        require(rising, "drops", self.drops, "rising numbers between 0 and 1")
        require(
            0 <= self.warmup_epochs < self.epochs,
            "warmup_epochs",
            self.warmup_epochs,
            f"a number of at least 0 and below epochs (={self.epochs})",
        )
        require(clip is None or 0 < clip < infinity, "max_gradient_norm", clip, "a number above 0")
        require(
            0 <= self.label_smoothing < 1,
            "label_smoothing",
            self.label_smoothing,
            "a number in [0, 1)",
        )
        require(decay is None or 0 < decay < 1, "ema_decay", decay, "a number in (0, 1)")
